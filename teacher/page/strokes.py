"""What a person does to a sample's mask, and the pixels that it covers.

The page covers the same pixels by the same sums while somebody draws (`static/raster.js`).

Shapes: R = side of the image. Places are in pixels of the image, x to the right and y down: pixel
(0, 0) reaches from 0 to 1 and has its centre at 0.5.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from datasets.labels import Mask

NOTHING = 255  # of a pixel on which nobody has drawn
_MOST_POINTS = 20_000

Points = npt.NDArray[np.float64]  # [N, 2], x and y
Covered = npt.NDArray[np.bool_]  # [R, R]


class Stroke(Protocol):
    """One thing that a person does to a mask, and that can be undone."""

    kind: ClassVar[str]

    def put_on(self, mask: Mask) -> None:
        """Change a mask [R, R]; `NOTHING` where there is no class."""

    def as_json(self) -> dict[str, Any]:
        """What `read_stroke` reads."""


@dataclass(frozen=True)
class Line:
    """A line of the brush.

    Attributes:
        label: class; `NOTHING` for the eraser.
        size: diameter of the brush in pixels.
        points: places that the brush went through, straight from each to the next.
    """

    kind: ClassVar[str] = "line"
    label: int
    size: float
    points: Points

    def put_on(self, mask: Mask) -> None:
        mask[cover_line(self.points, self.size, len(mask))] = self.label

    def as_json(self) -> dict[str, Any]:
        points = self.points.tolist()
        return {"kind": self.kind, "class": self.label, "size": self.size, "points": points}


@dataclass(frozen=True)
class Area:
    """What a closed outline holds: a lasso or a polygon.

    Attributes:
        label: class; `NOTHING` to erase.
        points: corners of the outline.
    """

    kind: ClassVar[str] = "area"
    label: int
    points: Points

    def put_on(self, mask: Mask) -> None:
        mask[cover_area(self.points, len(mask))] = self.label

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "class": self.label, "points": self.points.tolist()}


@dataclass(frozen=True)
class Agreed:
    """Pixels of the teacher's answer that the person agrees with: a part of it, or all.

    What was drawn before stays.

    Attributes:
        runs: class, first pixel and number of pixels of each run [N, 3], along the rows from the top.
    """

    kind: ClassVar[str] = "agreed"
    runs: npt.NDArray[np.int64]

    def put_on(self, mask: Mask) -> None:
        flat = mask.reshape(-1)
        for label, first, count in self.runs.tolist():
            run = flat[first : first + count]
            run[run == NOTHING] = label

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "runs": self.runs.tolist()}


def read_stroke(values: object, side: int, classes: int) -> Stroke:
    """A stroke from JSON.

    Args:
        side: R.
        classes: number of classes.

    Raises:
        UserError: it is none, or reaches beyond what there is.
    """
    if not isinstance(values, Mapping):
        raise UserError("a stroke is a mapping of names to values.")
    kind = values.get("kind")
    if kind == Line.kind:
        label, size = _label(values, classes), values.get("size")
        if not isinstance(size, int | float) or isinstance(size, bool) or not 0 < size <= side:
            raise UserError(f"the brush of a line has a size above 0 and up to {side}.")
        return Line(label, float(size), _points(values, side, 1))
    if kind == Area.kind:
        return Area(_label(values, classes), _points(values, side, 3))
    if kind == Agreed.kind:
        return Agreed(_runs(values.get("runs"), side, classes))
    raise UserError("a stroke is a line, an area or agreed.")


def _label(values: Mapping[str, Any], classes: int) -> int:
    label = values.get("class")
    if type(label) is not int or not (0 <= label < classes or label == NOTHING):
        raise UserError(f"a stroke has a class from 0 to {classes - 1}, or {NOTHING} to erase.")
    return label


def _points(values: Mapping[str, Any], side: int, least: int) -> Points:
    try:
        points = np.asarray(values.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not least <= len(points) <= _MOST_POINTS:
        raise UserError(f"a stroke has {least} to {_MOST_POINTS} points, each an x and a y.")
    if not (np.isfinite(points).all() and (np.abs(points - side / 2) <= 2 * side).all()):
        raise UserError("a stroke has a point far outside of the image.")
    return points


def _runs(values: object, side: int, classes: int) -> npt.NDArray[np.int64]:
    message = "agreed pixels are runs of a class, a first pixel and a number of pixels, in order."
    if not isinstance(values, Sequence) or not values or len(values) > side * side:
        raise UserError(message)
    if any(not isinstance(run, list) or [type(n) for n in run] != [int] * 3 for run in values):
        raise UserError(message)
    if any(not 0 <= n <= side * side for run in values for n in run):
        raise UserError(message)
    runs = np.asarray(values, np.int64)
    label, first, count = runs.T
    ends = first + count
    if (label >= classes).any() or (count < 1).any() or (ends > side * side).any():
        raise UserError(message)
    if (first[1:] < ends[:-1]).any():
        raise UserError(message)
    return runs


def cover_line(points: Points, size: float, side: int) -> Covered:
    """Pixels whose centre is within half of the brush's size of a line, and those of its points."""
    covered, radius = np.zeros((side, side), bool), size / 2
    starts, ends = points[: max(1, len(points) - 1)], points[min(1, len(points) - 1) :]
    for (ax, ay), (bx, by) in zip(starts.tolist(), ends.tolist(), strict=True):
        left, right = _between(min(ax, bx) - radius, max(ax, bx) + radius, side)
        top, bottom = _between(min(ay, by) - radius, max(ay, by) + radius, side)
        px, py = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        along = ((px - ax) * dx + (py - ay) * dy) / length if length else np.zeros((1, 1))
        along = along.clip(0, 1)
        ex, ey = px - (ax + along * dx), py - (ay + along * dy)
        covered[top:bottom, left:right] |= ex * ex + ey * ey <= radius * radius
    x, y = np.floor(points).astype(np.int64).T
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    covered[y[inside], x[inside]] = True
    return covered


def cover_area(points: Points, side: int) -> Covered:
    """Pixels whose centre is inside of a closed outline, by the even-odd rule."""
    covered = np.zeros((side, side), bool)
    px = np.arange(side) + 0.5
    for (ax, ay), (bx, by) in zip(points.tolist(), np.roll(points, -1, 0).tolist(), strict=True):
        top, bottom = _between(min(ay, by), max(ay, by), side)
        py = np.arange(top, bottom)[:, None] + 0.5
        crossed = (ay > py) != (by > py)
        if by != ay:
            covered[top:bottom] ^= crossed & (px < (bx - ax) * (py - ay) / (by - ay) + ax)
    return covered


def _between(low: float, high: float, side: int) -> tuple[int, int]:
    """First pixel and end of those whose centre may lie between two places."""
    return max(0, math.floor(low)), min(side, max(0, math.ceil(high) + 1))
