"""LabelMe's JSON: polygons, rectangles, circles and embedded masks of one image."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from common.errors import UserError
from datasets.masks.base import FoundMask, MaskFile, Size, Target, open_png


def claims(file: MaskFile) -> bool:
    """Whether it is a JSON object with `shapes`."""
    return file.json is not None and "shapes" in file.json


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """The mask of its image: later shapes lie over earlier ones."""
    content = file.json or {}
    name = target.image_of(content.get("imagePath") or file.name, file)
    size = (int(content["imageHeight"]), int(content["imageWidth"]))
    mask = np.zeros(size, np.uint8)
    for shape in content["shapes"]:
        index = target.class_of(str(shape["label"]), file)
        mask[_area(shape, size, file)] = index
    yield FoundMask(name, str(file), mask)


def _area(shape: dict[str, Any], size: Size, source: object) -> npt.NDArray[np.bool_]:
    """Pixels that a shape covers, bool [H, W]."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "mask":  # an image of the box between two corners
        part = open_png(base64.b64decode(shape["mask"], validate=True), source)
        return _paste(np.asarray(part) > 0, round(points[0][0]), round(points[0][1]), size)
    canvas = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon" and len(points) > 2:
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), (ex, ey) = points
        radius = ((x - ex) ** 2 + (y - ey) ** 2) ** 0.5
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    else:
        raise UserError(
            f"{source} has a {kind} of {len(points)} points labelled {shape['label']}, which covers "
            "no area; draw polygons, rectangles, circles or masks."
        )
    return np.asarray(canvas)


def _paste(part: npt.NDArray[np.bool_], left: int, top: int, size: Size) -> npt.NDArray[np.bool_]:
    """A part of a mask at its place in the whole; what lies beyond right and lower border is cut."""
    whole = np.zeros(size, np.bool_)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part[
        : max(size[0] - top, 0), : max(size[1] - left, 0)
    ]
    return whole
