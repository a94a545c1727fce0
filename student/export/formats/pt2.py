"""The student as a file of torch.export."""

from pathlib import Path

import torch

from student.export.deploy import labels_of
from student.export.formats.base import SegmentFunction
from student.export.graph import Traced, quiet


class Pt2:
    """Format `pt2`."""

    file, title, exact = "student.pt2", "torch.export", True
    row = 'the same graph for `torch.export.load("student.pt2").module()`'

    def write(self, student: Traced, path: Path) -> None:
        # An example brings checks of everything that was true of it, such as that there were several
        # images. The graph does not need that: the agreement is measured at other sizes.
        program, example = student.program, student.program.example_inputs
        program.example_inputs = None
        try:
            with quiet():
                torch.export.save(program, path)
        finally:
            program.example_inputs = example

    def run(self, path: Path) -> SegmentFunction:
        with quiet():
            module = torch.export.load(path).module()
        return lambda images: labels_of(module(images))
