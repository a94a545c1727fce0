"""Shapes of an image, painted over each other; those that vanish are told."""

import math

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from datasets.masks.base import FoundMask, Size

Area = npt.NDArray[np.bool_]  # [H, W]
_REACH = 10  # how many sides of its image a shape may reach; beyond, its numbers are no pixels


class Shapes:
    """A mask that shapes are painted on: later ones lie over earlier ones.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: Size) -> None:
        self.size, self.mask = size, np.zeros(size, np.uint8)
        self._top = np.zeros(size, np.int32)  # number of the shape on top, from 1 on
        self._painted: list[tuple[str, int, npt.NDArray[np.uint8]]] = []
        self.remarks: list[str] = []

    def paint(self, area: Area, index: int, what: str) -> None:
        """Paint a shape of a class; `what` names it, with its image."""
        self._painted.append((what, index, np.packbits(area)))
        self.mask[area] = index
        self._top[area] = len(self._painted)

    def finish(self, image: str, source: str) -> FoundMask:
        """The mask, with a remark on every shape that nothing is left of."""
        left = np.bincount(self._top.ravel(), minlength=len(self._painted) + 1)
        for number, (what, index, packed) in enumerate(self._painted, 1):
            if left[number]:
                continue
            area = np.unpackbits(packed, count=self.mask.size).reshape(self.size).astype(np.bool_)
            if not area.any():
                self.remarks.append(f"{what} covers no pixel of its image")
            elif not (self.mask[area] == index).all():
                self.remarks.append(
                    f"{what} is covered wholly by later shapes and vanishes; put it after them"
                )
        return FoundMask(image, source, self.mask, tuple(self.remarks))


def check_points(numbers: list[float], size: Size, what: str) -> None:
    """Check coordinates of a shape.

    Raises:
        UserError: one is not a number, or is far away from the image.
    """
    reach = _REACH * max(size)
    for number in numbers:
        if not math.isfinite(number) or abs(number) > reach:
            raise UserError(
                f"{what} has the coordinate {number:g}, far beyond the image of {size[1]}x{size[0]} "
                "pixels; draw it again, or delete it."
            )


def cut_out(part: Area, left: int, top: int, size: Size) -> Area:
    """A part of a mask at its place in the whole, [H, W]; what lies beyond the borders is cut."""
    whole = np.zeros(size, np.bool_)
    rows = slice(max(top, 0), max(min(top + part.shape[0], size[0]), 0))
    columns = slice(max(left, 0), max(min(left + part.shape[1], size[1]), 0))
    inside = part[max(-top, 0) :, max(-left, 0) :]
    space = whole[rows, columns]
    space[:] = inside[: space.shape[0], : space.shape[1]]
    return whole
