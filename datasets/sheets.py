"""Images beside their masks, in grids, for people to look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from common.files import atomic_write
from datasets import Dataset
from datasets.labels import LabelSet

ImageArray = npt.NDArray[np.uint8]  # [H, W, 3]


def batch_size_for(images: Tensor) -> int:
    """How many of these images or masks [..., H, W] a network takes at a time: fewer of larger ones.

    A batch has at most as many pixels as fifty images of 256 px, or holds a single image.
    """
    height, width = images.shape[-2:]
    return max(1, min(50, (50 << 16) // (height * width)))


def grid(
    columns: dict[str, list[ImageArray]], labels: LabelSet | None = None, side: int = 128
) -> ImageArray:
    """Images in titled columns, above a legend of the classes.

    Args:
        columns: images [H, W, 3] of one size, by the column's title.
        labels: the classes of the legend; none for no legend.
        side: images are enlarged by a whole number, up to `side` px; those above 256 px are shrunk to it.
    """
    height, width = next(iter(columns.values()))[0].shape[:2]
    rows = max(len(column) for column in columns.values())
    scale = max(1, side // height) if height <= 256 else 256 / height
    cell_h, cell_w, gap, head = round(height * scale), round(width * scale), 4, 22
    font = ImageFont.load_default(14)
    total_w = len(columns) * (cell_w + gap) + gap
    legend = _legend(labels, total_w, font) if labels else None
    below = head + rows * (cell_h + gap)
    sheet = Image.new("RGB", (total_w, below + (legend.height if legend else 0)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, (title, column) in enumerate(columns.items()):
        x = gap + c * (cell_w + gap)
        draw.text((x + cell_w // 2, head // 2), title, "black", font, anchor="mm")
        for r, image in enumerate(column):
            cell = Image.fromarray(image).resize((cell_w, cell_h), Image.Resampling.NEAREST)
            sheet.paste(cell, (x, head + r * (cell_h + gap)))
    if legend:
        sheet.paste(legend, (0, below))
    return np.asarray(sheet)


def _legend(labels: LabelSet, width: int, font: Any) -> Image.Image:
    x, y, places = 6, 6, []
    for name in labels.names:
        need = 22 + int(font.getlength(name)) + 12
        if x + need > width:
            x, y = 6, y + 20
        places.append((x, y))
        x += need
    legend = Image.new("RGB", (width, y + 22), "white")
    draw = ImageDraw.Draw(legend)
    for name, colour, (left, top) in zip(labels.names, labels.colours, places, strict=True):
        draw.rectangle((left, top, left + 14, top + 12), fill=tuple(colour), outline="grey")
        draw.text((left + 19, top + 6), name, "black", font, anchor="lm")
    return legend


def tile(images: Tensor, columns: int | None = None) -> ImageArray:
    """uint8 [B, 3, H, W] -> one sheet [rows * H, columns * W, 3], nearly square if nothing is said."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    count, _, height, width = images.shape
    sheet = images.new_zeros(rows * columns, 3, height, width)
    sheet[:count] = images
    sheet = sheet.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    return sheet.reshape(rows * height, columns * width, 3).cpu().numpy()


def save_sheet(sheet: ImageArray, path: Path) -> None:
    """Write a sheet as PNG."""
    with atomic_write(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


def to_array(image: Tensor) -> ImageArray:
    """uint8 [3, H, W] -> [H, W, 3]."""
    return image.permute(1, 2, 0).cpu().numpy()


@torch.no_grad()
def show_predictions(
    network: nn.Module, data: Dataset[Any], labels: LabelSet, count: int = 6
) -> ImageArray:
    """The first `count` images of a data set of `Labelled` items, their masks and the predictions."""
    items = [data[i] for i in range(min(count, len(data)))]  # type: ignore[arg-type]
    device = next(network.parameters()).device
    predicted = network.eval()(torch.stack([i.image for i in items]).to(device)).argmax(1)
    masks = predicted.to(torch.uint8).cpu().numpy()
    return grid(
        {
            "image": [to_array(i.image) for i in items],
            "label": [labels.paint(i.mask.numpy()) for i in items],
            "prediction": [labels.paint(mask) for mask in masks],
        },
        labels,
    )


def show_confusion(matrix: Tensor, labels: LabelSet, cell: int = 44) -> ImageArray:
    """A confusion matrix [C, C] of pixel counts as an image: rows are true classes, in percent of each."""
    shares = 100 * matrix.double().cpu() / matrix.sum(1, keepdim=True).cpu().clamp_min(1)
    font = ImageFont.load_default(13)
    left = 12 + int(max(font.getlength(name) for name in labels.names))
    side, top = len(labels) * cell, 48
    sheet = Image.new("RGB", (left + side + 8, top + side + 8), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left + side // 2, 10), "predicted, % of the true class", "black", font, anchor="mm")
    for i, name in enumerate(labels.names):
        middle = i * cell + cell // 2
        draw.text((left - 6, top + middle), name, "black", font, anchor="rm")
        short = name if font.getlength(name) < cell else name[:5] + "."
        draw.text((left + middle, top - 12), short, "black", font, anchor="mm")
        for j, share in enumerate(shares[i].tolist()):
            x, y = left + j * cell, top + i * cell
            tint = round(255 - 2 * share)
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=(tint, tint, 255))
            said = f"{share:.0f}" if share >= 0.5 else ""
            ink = "white" if share > 60 else "black"
            draw.text((x + cell // 2, y + cell // 2), said, ink, font, anchor="mm")
    return np.asarray(sheet)
