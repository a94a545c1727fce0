"""LabelMe's JSON: polygons, rectangles, circles and embedded masks of one image."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from common.errors import UserError
from datasets.mask_images import open_mask
from datasets.masks.base import FoundMask, MaskFile, Size, Target
from datasets.masks.shapes import Area, Shapes, check_points, cut_out

# Kinds whose points are corners, in order. A rectangle of two points has only two opposite ones.
_POLYGONS = ("polygon", "rectangle", "rotation", "oriented_rectangle")


def claims(file: MaskFile) -> bool:
    """Whether it is a JSON object with `shapes`."""
    return file.json is not None and "shapes" in file.json


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """The mask of its image: later shapes lie over earlier ones."""
    content = file.json or {}
    name = target.image_of(content.get("imagePath") or file.name, file)
    size = (int(content["imageHeight"]), int(content["imageWidth"]))
    target.check_size(name, size, file)
    shapes = Shapes(size)
    for number, shape in enumerate(content["shapes"], 1):
        label = str(shape["label"])
        what = f"{file}: shape {number} ({label}) of image {name}"
        shapes.paint(_area(shape, size, what), target.class_of(label, file), what)
    yield shapes.finish(name, str(file))


def _area(shape: dict[str, Any], size: Size, what: str) -> Area:
    """Pixels that a shape covers, bool [H, W]."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    check_points([number for point in points for number in point], size, what)
    if kind == "mask":  # an image of the box between two corners
        return _embedded(shape.get("mask"), points, size, what)
    canvas = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    if kind in _POLYGONS and len(points) > 2:
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
            f"{what} is a {kind} of {len(points)} points, which covers no area; draw polygons, rectangles, "
            "circles or masks."
        )
    return np.asarray(canvas)


def _embedded(encoded: object, points: list[tuple[float, float]], size: Size, what: str) -> Area:
    """Pixels of a mask that lies in the file as a PNG, bool [H, W].

    Raises:
        UserError: it is missing, or does not fill its box.
    """
    if not isinstance(encoded, str) or not points:
        raise UserError(f"{what} is a mask without its image or its box; draw it again.")
    image = open_mask(base64.b64decode(encoded, validate=True), what)
    part = np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L")) > 0
    left, top = round(points[0][0]), round(points[0][1])
    if len(points) > 1:
        width, height = round(points[1][0]) - left + 1, round(points[1][1]) - top + 1
        if max(abs(width - part.shape[1]), abs(height - part.shape[0])) > 1:
            raise UserError(
                f"{what} is a mask of {part.shape[1]}x{part.shape[0]} pixels in a box of {width}x{height}; "
                "draw it again."
            )
    return cut_out(part, left, top, size)
