"""Images for the report: a test set's images beside the masks of ground truth and models."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.confusion import confusion_per_image, mean_iou
from datasets.labels import LabelSet
from datasets.sheets import ImageArray, grid, to_array
from evaluation.predictions import SetPredictions
from evaluation.rows import EXPORTED, INVERTED, STUDENT, TEACHERS

_RANKED = 3  # of the best, of the median and of the worst images


def draw_comparison(sets: Mapping[str, SetPredictions], labels: LabelSet, count: int) -> ImageArray:
    """All test sets side by side, the first `count` images of each: image, truth, every model's masks."""
    sheets = []
    for name, whole in sets.items():
        if name.endswith(INVERTED):
            continue
        predictions = sets.get(name + INVERTED, whole)  # fewer images, one model more
        columns = {name: [to_array(image) for image in predictions.images[:count]]}
        for title, masks in ({"truth": predictions.truth} | predictions.masks).items():
            if title != EXPORTED:  # the student's masks once more
                columns[title] = [labels.paint(mask.numpy()) for mask in masks[:count]]
        sheets.append(grid(columns, labels))
    height = max(sheet.shape[0] for sheet in sheets)
    padded = [
        np.pad(s, ((0, height - s.shape[0]), (0, 16), (0, 0)), constant_values=255) for s in sheets
    ]
    return np.concatenate(padded, axis=1)


def ranked_images(predictions: SetPredictions, labels: LabelSet) -> dict[str, str]:
    """The images with the student's best, median and worst mIoU.

    Returns:
        A sheet for each caption, as a data URL; one sheet with all images if they are few.
    """
    confusion = confusion_per_image(predictions.truth, predictions.masks[STUDENT], len(labels))
    miou = mean_iou(confusion)
    order = miou.argsort(descending=True).tolist()
    middle = (len(order) - _RANKED) // 2
    groups = {
        "Best": order[:_RANKED],
        "Median": order[middle : middle + _RANKED],
        "Worst": order[-_RANKED:],
    }
    if len(order) < len(groups) * _RANKED:
        groups = {"All, the best first": order}
    sheets = {}
    for name, chosen in groups.items():
        values = ", ".join(f"{100 * miou[i]:.1f}" for i in chosen)
        sheets[f"{name}: mIoU {values}"] = data_url(_mask_sheet(predictions, chosen, labels))
    return sheets


def _mask_sheet(predictions: SetPredictions, chosen: list[int], labels: LabelSet) -> ImageArray:
    """Images, the masks of ground truth, teacher and student, and where the two are wrong."""
    images, truth = predictions.images, predictions.truth
    teachers = [model for model in reversed(TEACHERS) if model in predictions.masks]
    models = {name: predictions.masks[name] for name in [*teachers[:1], STUDENT]}
    columns = {"image": [to_array(images[i]) for i in chosen]}
    for title, masks in {"truth": truth, **models}.items():
        columns[title] = [labels.paint(masks[i].numpy()) for i in chosen]
    for name, masks in models.items():
        columns[f"{name.partition('_')[0]} wrong"] = [
            marked(images[i], (truth[i] != masks[i]) & (truth[i] != labels.ignore_index))
            for i in chosen
        ]
    return grid(columns)


def marked(image: Tensor, where: Tensor) -> ImageArray:
    """A pale grey copy of an image [3, H, W], red in some pixels [H, W]."""
    pale = 255 - (255 - image.float().mean(0)) * 0.45
    red = torch.tensor([200.0, 30.0, 45.0]).view(3, 1, 1)
    return to_array(torch.where(where, red, pale).to(torch.uint8))


def data_url(image: ImageArray) -> str:
    """An image as a URL that holds it as PNG, so that a page loads nothing."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def file_data_url(path: Path) -> str:
    """The same for an image file."""
    with Image.open(path) as image:
        return data_url(np.asarray(image.convert("RGB")))
