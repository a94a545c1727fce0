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
        names = ["labels", "probabilities"] if self.deployed.probabilities else ["labels"]
        try:
            with quiet():
                made = torch.onnx.export(
                    self.program,
                    dynamo=True,
                    verbose=False,
                    input_names=["images"],
                    output_names=names,
                )
        except Exception as error:
            raise UserError(_refusal(self.deployed, "ONNX", error)) from error
        assert made is not None
        model = made.model_proto
        del model.graph.value_info[:]  # sizes under the exporter's names; runtimes infer their own
        _name_sizes(model)
        return model


def trace(deployed: Deployed, calibration: Tensor | None = None) -> Traced:
    """Trace a student with torch.export, for any number of images of any size.

    Raises:
        UserError: the encoder does what a graph cannot hold.
    """
    sizes = tuple(torch.export.Dim(name, min=1) for name in ("n", "h", "w"))
    # No side equals the resolution or another side: what holds by chance would be taken for a rule.
    example = torch.zeros(2, 97, 131, 3, dtype=torch.uint8)
    try:
        with quiet(), torch.no_grad(), _any_size():
            program = torch.export.export(
                deployed, (example,), dynamic_shapes=(dict(enumerate(sizes)),)
            )
    except Exception as error:  # the exporter passes on what any layer raises
        raise UserError(_refusal(deployed, "torch.export", error)) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where the code lies on this machine
    return Traced(deployed, program, calibration)


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
