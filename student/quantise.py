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

_BATCH = 10  # pictures at a time while ranges are measured


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Calibration pictures [N, 3, R, R], a few at a time."""

    def __init__(self, pictures: Tensor) -> None:
        shown = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        self._batches: Iterator[Any] = iter(np.split(shown, range(_BATCH, len(shown), _BATCH)))

    def get_next(self) -> dict[str, Any] | None:
        return next(({"pictures": batch} for batch in self._batches), None)


def quantise(model: Path, target: Path, pictures: Tensor) -> None:
    """Write an ONNX file whose convolutions compute in eight bits.

    Weights have a scale for every channel, activations one for every map, from the least and largest
    values on the calibration pictures. The convolutions on the picture itself and the classifier stay in
    floats: they are a small part of the time, and errors there reach every pixel unsmoothed. So do
    resizing, normalisation and whatever is no convolution.

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
                op_types_to_quantize=["Conv", "Gemm", "MatMul"], per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_exclude=_sensitive(onnx.load(prepared)),
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)


def _sensitive(model: Any) -> list[str]:
    """Names of the convolutions that take three channels, those of a picture, and of the last one."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    first = [node.name for node in nodes if list(weights.get(node.input[1], ()))[1:2] == [3]]
    return [*first, nodes[-1].name]
