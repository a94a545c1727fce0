"""The exported student in eight bits, for processors that multiply them faster."""

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

_BATCH = 4  # pictures at a time while ranges are measured
_TYPES = ("Conv", "Gemm", "MatMul", "Add", "Concat", "Resize", "Relu")


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Calibration pictures [N, 3, R, R], a few at a time."""

    def __init__(self, pictures: Tensor) -> None:
        shown = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        self._batches: Iterator[Any] = iter(np.split(shown, range(_BATCH, len(shown), _BATCH)))

    def get_next(self) -> dict[str, Any] | None:
        return next(({"pictures": batch} for batch in self._batches), None)


def quantise(model: Path, target: Path, pictures: Tensor) -> None:
    """Write an ONNX file whose network computes in eight bits.

    Weights have a scale for every channel, activations one for every map, from the least and largest
    values on the calibration pictures. Weights use seven of their bits: processors without VNNI add
    products of two in sixteen bits, which eight would overflow without a word. A ReLU is no layer of its
    own but the lower end of the range before it: else every convolution's result would become floats
    there and eight bits again, which takes half as long as the convolutions. What is done to the picture
    itself stays in floats, the convolutions on it too: with three channels they gain nothing.

    Args:
        pictures: uint8 [N, 3, R, R] of the kind that the student will see.
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        logging.disable(logging.WARNING)  # advice on preparing, which was followed
        try:
            # Sizes stay unknown: its symbolic inference has no words for the resizing here.
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared), str(target), _Pictures(pictures), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_TYPES], per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_quantize=_inner_nodes(onnx.load(prepared)),
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)


def _inner_nodes(model: Any) -> list[str]:
    """Names of the nodes to quantise: behind a first convolution and up to the last one, the classifier.

    What computes sizes is not among them, nor what changes the picture's or the logits' size.
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
