"""A deployed student as files that need none of our code: ONNX and torch.export, and whether they agree."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from common.files import atomic_write
from student.export.deploy import Deployed
from student.network import NetworkConfig, Student
from student.predict.segmenter import open_session

Run = Callable[[Tensor], Tensor]  # uint8 pictures [N, H, W, 3] -> label maps [N, H, W]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' own deprecations and advice are nothing to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _any_size() -> Any:
    """Sizes of one are traced as all others are."""
    config: Any = import_module("torch.fx.experimental._config")  # a module that has no types
    return config.patch(backed_size_oblivious=True)


def trace(deployed: Deployed) -> torch.export.ExportedProgram:
    """The graph for any number of pictures of any size.

    Raises:
        UserError: the encoder does what a graph cannot hold.
    """
    sizes = tuple(torch.export.Dim(name, min=1) for name in ("n", "h", "w"))
    # No side is the resolution or another side: what holds by chance would be taken for a rule.
    example = torch.zeros(2, 97, 131, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad(), _any_size():
            return torch.export.export(
                deployed, (example,), dynamic_shapes=(dict(enumerate(sizes)),)
            )
    except Exception as error:  # the exporter passes on what any layer raises
        raise UserError(_refusal(deployed, "torch.export", error)) from error


def to_onnx(program: torch.export.ExportedProgram, deployed: Deployed) -> Any:
    """The same graph as an ONNX model.

    Raises:
        UserError: ONNX has no words for it.
    """
    names = ["labels", "probabilities"] if deployed.probabilities else ["labels"]
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["pictures"], output_names=names
            )
    except Exception as error:
        raise UserError(_refusal(deployed, "ONNX", error)) from error
    assert made is not None
    model = made.model_proto
    del model.graph.value_info[:]  # sizes under the exporter's names; runtimes infer their own
    _name_sizes(model)
    return model


def _name_sizes(model: Any) -> None:
    """Call sizes what people call them."""
    shapes = {
        "pictures": ("n", "h", "w", ""), "labels": ("n", "h", "w"), "probabilities": ("n", "", "h", "w"),
    }  # fmt: skip
    for value in (*model.graph.input, *model.graph.output):
        for place, name in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if name:  # a number otherwise
                place.dim_param = name


def _refusal(deployed: Deployed, what: str, error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"a student with the encoder {deployed.student.config.encoder!r} cannot be exported, {what} "
        f"cannot hold it ({first.strip()[:200]}); set student.network.encoder to another one."
    )


def check_exportable(config: NetworkConfig, classes: int) -> None:
    """Refuse, before anything is trained, a network that could not be exported afterwards.

    Raises:
        UserError: with the reason.
    """
    student = Student(replace(config, pretrained=False), classes).eval().requires_grad_(False)
    deployed = Deployed(student, 64)
    to_onnx(trace(deployed), deployed)


def write_pt2(program: torch.export.ExportedProgram, path: Path) -> None:
    """The same graph as a file of torch.export."""
    # With an example come checks of everything that was true of it, such as that there were several
    # pictures. The graph does not need them to be so: `agreement` asks it for other sizes.
    program.example_inputs = None
    with atomic_write(path) as partial, _quiet():
        torch.export.save(program, partial)


def run_pt2(path: Path) -> Run:
    """What is in a file of torch.export."""
    module = torch.export.load(path).module()
    return lambda pictures: _first(module(pictures))


def run_onnx(path: Path) -> Run:
    """What is in an ONNX file, in ONNX Runtime on the CPU."""
    session = open_session(path, torch.get_num_threads())
    return lambda pictures: torch.from_numpy(
        session.run(["labels"], {"pictures": pictures.numpy()})[0]
    )


def _first(given: Any) -> Tensor:
    return given[0] if isinstance(given, tuple) else given


def sizes_to_check(resolution: int) -> tuple[tuple[int, int], ...]:
    """What people will show: the training's size, others, odd ones, strips, large ones, one pixel."""
    r = resolution
    return (
        (r, r), (2 * r, 3 * r), (3 * r - 1, 2 * r + 1), (r // 2 + 1, r // 2), (1, 4 * r), (7 * r, 5),
        (1, 1), (1500, 2100),
    )  # fmt: skip


@torch.no_grad()
def agreement(deployed: Deployed, other: Run, pictures: Tensor) -> dict[str, float]:
    """Share of pixels on which a file says the same as PyTorch, by the pictures' size.

    Args:
        pictures: uint8 [N, 3, R, R]; enlarged or reduced to each size, fewer of large ones.
    """
    shares = {}
    for height, width in sizes_to_check(deployed.resolution):
        some = pictures[: 8 if height * width < 1e6 else 1].float()
        shown = F.interpolate(some, (height, width), mode="bilinear", antialias=True)
        shown = shown.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        same = _first(deployed(shown)) == other(shown)
        shares[f"{width}x{height}"] = float(same.double().mean())
    return shares
