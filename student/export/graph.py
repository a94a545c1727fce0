"""A deployed student as a graph, from which the export formats are written."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from student.base import NetworkConfig
from student.export.deploy import Deployed
from student.network import build_student


@dataclass(frozen=True)
class Traced:
    """A deployed student and its graph.

    Attributes:
        deployed: the student in PyTorch.
        program: its graph, for any number of images of any size.
        calibration: uint8 [N, 3, R, R], training images for formats that measure ranges on them; none
            where these are not at hand.
    """

    deployed: Deployed
    program: torch.export.ExportedProgram
    calibration: Tensor | None = None

    @cached_property
    def onnx(self) -> Any:
        """The graph as an ONNX model.

        Raises:
            UserError: ONNX cannot hold it.
        """
        try:
            made = self._converted()
        except Exception as error:
            # ONNX knows fused attention in four dimensions only; some families have five.
            if not _part_attention(self.deployed):
                raise UserError(_refusal(self.deployed, "ONNX", error)) from error
            try:
                made = trace(self.deployed)._converted()
            except Exception as again:
                raise UserError(_refusal(self.deployed, "ONNX", again)) from again
        model = made.model_proto
        del model.graph.value_info[:]  # sizes under the exporter's names; runtimes infer their own
        _name_sizes(model)
        return model

    def _converted(self) -> Any:
        """What the exporter makes of the graph."""
        with quiet():
            made = torch.onnx.export(
                self.program,
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["labels", "probabilities"][: 1 + self.deployed.probabilities],
            )
        assert made is not None
        return made


def trace(deployed: Deployed, calibration: Tensor | None = None) -> Traced:
    """Trace a student with torch.export, for any number of images of any size.

    Raises:
        UserError: the encoder does what a graph cannot hold.
    """
    try:
        program = _exported(deployed)
    except Exception:
        # The exporter takes some layouts' strides for a rule on the number of images.
        deployed.to(memory_format=torch.channels_last)  # as it was trained
        try:
            program = _exported(deployed)
        except Exception as error:  # the exporter passes on what any layer raises
            raise UserError(_refusal(deployed, "torch.export", error)) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where the code lies on this machine
    return Traced(deployed, program, calibration)


def _exported(deployed: Deployed) -> torch.export.ExportedProgram:
    """The graph of a student, or what the exporter raises."""
    sizes = tuple(torch.export.Dim(name, min=1) for name in ("n", "h", "w"))
    # No side equals the resolution or another side: what holds by chance would be taken for a rule.
    example = torch.zeros(2, 97, 131, 3, dtype=torch.uint8)
    with quiet(), torch.no_grad(), _any_size():
        return torch.export.export(deployed, (example,), dynamic_shapes=(dict(enumerate(sizes)),))


def _part_attention(deployed: Deployed) -> bool:
    """Have timm's attention computed step by step; whether any was fused."""
    fused = [m for m in deployed.modules() if getattr(m, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    return bool(fused)


def check_exportable(config: NetworkConfig, classes: int, resolution: int = 64) -> None:
    """Refuse, before anything is trained, a network that could not be exported afterwards.

    Args:
        resolution: side of the square images that it would be trained on, in pixels.

    Raises:
        UserError: with the reason.
    """
    student = build_student(config, classes, resolution).eval().requires_grad_(False)
    _ = trace(Deployed(student, resolution)).onnx


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' own deprecations and advice, on which nobody here can act."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _any_size() -> Any:
    """Have sizes of one traced like all others."""
    config: Any = import_module("torch.fx.experimental._config")  # this module has no types
    return config.patch(backed_size_oblivious=True)


def _name_sizes(model: Any) -> None:
    """Name the dimensions of inputs and outputs n, h and w."""
    shapes = {
        "images": ("n", "h", "w", ""), "labels": ("n", "h", "w"), "probabilities": ("n", "", "h", "w"),
    }  # fmt: skip
    for value in (*model.graph.input, *model.graph.output):
        for place, name in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if name:  # a fixed number otherwise
                place.dim_param = name


def _refusal(deployed: Deployed, what: str, error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"a student with the encoder {deployed.student.config.encoder!r} cannot be exported, {what} "
        f"cannot hold it ({first.strip()[:200]}); set student.network.encoder to another one."
    )
