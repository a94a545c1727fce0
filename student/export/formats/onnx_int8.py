"""The student as ONNX in eight bits, for processors that multiply them faster."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from student.export.formats.base import SegmentFunction
from student.export.formats.onnx import run_onnx
from student.export.graph import Traced

_BATCH = 4  # images at a time while ranges are measured
_TYPES = ("Conv", "Gemm", "MatMul", "Add", "Concat", "Resize", "Relu")


class OnnxInt8:
    """Format `int8`."""

    file, title, exact = "student-int8.onnx", "eight bits", False
    row = "the same, convolutions in 8 bits: for processors with VNNI"

    def write(self, student: Traced, path: Path) -> None:
        assert student.calibration is not None
        with TemporaryDirectory() as folder:
            floats = Path(folder) / "float.onnx"
            onnx.save(student.onnx, str(floats))
            _quantise(floats, path, student.calibration)

    def run(self, path: Path) -> SegmentFunction:
        return run_onnx(path)


def _quantise(model: Path, target: Path, images: Tensor) -> None:
    """Write an ONNX file whose network computes in eight bits.

    Weights have a scale per channel; activations have one per map, from the least and largest values on the
    calibration images. Weights use seven of their bits: processors without VNNI add two products in sixteen
    bits, which would overflow silently with eight. A ReLU becomes the lower end of the range before it: as
    a layer of its own it would turn every convolution's result into floats and back, which takes half as
    long as the convolutions. What is done to the image itself stays in floats, the convolutions on it
    included: with three channels they gain nothing.

    Args:
        images: uint8 [N, 3, R, R] of the kind that the student will see.
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        logging.disable(logging.WARNING)  # advice on preparing, which was followed
        try:
            # Sizes stay unknown: symbolic inference does not know the resizing here.
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared), str(target), _Calibration(images), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_TYPES], per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_quantize=_inner_nodes(onnx.load(prepared)),
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Calibration images [N, 3, R, R], a few at a time."""

    def __init__(self, images: Tensor) -> None:
        arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._batches: Iterator[Any] = iter(np.split(arrays, range(_BATCH, len(arrays), _BATCH)))

    def get_next(self) -> dict[str, Any] | None:
        return next(({"images": batch} for batch in self._batches), None)


def _inner_nodes(model: Any) -> list[str]:
    """Names of the nodes to quantise: from behind the first convolution to the last one, the classifier.

    Left out is what computes sizes, and what changes the image's or the logits' size.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    nodes = list(model.graph.node)  # each behind what it needs
    last = max(i for i, node in enumerate(nodes) if node.op_type == "Conv")
    inner: list[str] = []
    reached: set[str] = set()
    for node in nodes[: last + 1]:
        first = node.op_type == "Conv" and list(weights.get(node.input[1], ()))[1:2] == [3]
        if not first and reached.isdisjoint(node.input):
            continue
        reached.update(node.output)
        if not first and node.op_type in _TYPES:
            inner.append(node.name)
    return inner
