"""What an export format is."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor

from student.export.graph import Traced
from student.network import Predict

SegmentFunction = Callable[[Tensor], Tensor]  # uint8 images [N, H, W, 3] -> label maps [N, H, W]


class ExportFormat(Protocol):
    """A file that runs the student elsewhere.

    Attributes:
        file: its name in the exported folder.
        title: the format's name in messages.
        row: what the exported README says of the file.
        exact: whether it computes what PyTorch does: it must agree with it on `export.min_agreement` of the
            pixels. An inexact format needs calibration images, is written where `export.int8` asks for it,
            and may lose `export.int8_max_loss` of mIoU.
    """

    file: str
    title: str
    row: str
    exact: bool

    def write(self, student: Traced, path: Path) -> None:
        """Write the file."""
        ...

    def run(self, path: Path) -> SegmentFunction:
        """Open the file as those who get it do."""
        ...


def channels_first(segment: SegmentFunction) -> Predict:
    """The same for images [N, 3, H, W], as a network in PyTorch takes them."""
    return lambda images: segment(images.permute(0, 2, 3, 1))
