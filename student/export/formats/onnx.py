"""The student as ONNX, in 32-bit floats."""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from student.export.formats.base import SegmentFunction, channels_first
from student.export.graph import Traced
from student.network import Predict
from student.predict.onnx_model import OnnxModel
from student.predict.segmenter import MODEL


class Onnx:
    """Format `onnx`."""

    file, title, exact = MODEL, "ONNX", True
    row = "the graph, 32-bit floats; for ONNX Runtime and others"

    def write(self, student: Traced, path: Path) -> None:
        onnx.save(student.onnx, str(path))

    def run(self, path: Path) -> SegmentFunction:
        return run_onnx(path)


def run_onnx(path: Path) -> SegmentFunction:
    """An ONNX file in ONNX Runtime, on the CPU with as many threads as PyTorch has.

    Raises:
        UserError: the file cannot be read, or takes something else than uint8 RGB images.
    """
    model = OnnxModel(path, torch.get_num_threads())

    def segment(images: Tensor) -> Tensor:
        # In NumPy: a copy by PyTorch's threads leaves them spinning while the session needs the cores.
        return torch.from_numpy(model(np.ascontiguousarray(images.cpu().numpy())))

    return segment


def onnx_predictor(path: Path) -> Predict:
    """The same for images [N, 3, H, W], as a network in PyTorch takes them."""
    return channels_first(run_onnx(path))
