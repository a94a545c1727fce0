"""StyleGAN2 generators on disk: our folders, and checkpoint files of other systems."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from common.checkpoints import load_weights, save_weights
from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import Result, StageFolder
from teacher.generators.stylegan2.architecture import Architecture, ArchitectureError, Shape
from teacher.generators.stylegan2.formats import Checkpoint, read_checkpoint
from teacher.generators.stylegan2.formats.base import plain
from teacher.generators.stylegan2.network import Generator

WEIGHTS = "generator.safetensors"
ARCHITECTURE = "generator.json"
DISCRIMINATOR = "discriminator.safetensors"
_REMEDY = "copy the whole folder again"


def claims(path: Path) -> bool:
    """Whether a path is ours to read: any checkpoint file, and a folder that names no other family."""
    if path.is_file():
        return True
    about = _read_about(path)
    return not isinstance(about, dict) or about.get("family", "stylegan2") == "stylegan2"


def load(path: Path, device: torch.device) -> Generator:
    """Read a generator in float32, frozen, for inference.

    Raises:
        UserError: a file is missing or damaged, a tensor is missing, left over or not finite, or the
            architecture is beyond the ceilings.
    """
    if path.is_file():
        return _frozen(from_checkpoint(read_checkpoint(path)), device)
    try:
        architecture = Architecture.from_json(_read_about(path))
    except ArchitectureError as error:
        raise UserError(
            f"{path / ARCHITECTURE} describes no StyleGAN2 generator: {plain(str(error))}; {_REMEDY}."
        ) from error
    _require_shapes(path / WEIGHTS, architecture.shapes())
    generator = Generator(architecture)
    load_weights(generator, path / WEIGHTS, _REMEDY)
    for name, tensor in generator.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{path / WEIGHTS}: {name} holds values that are no finite numbers; make it anew."
            )
    return _frozen(generator, device)


def _read_about(path: Path) -> object:
    """What `generator.json` says."""
    try:
        return read_json(path / ARCHITECTURE)
    except RecursionError as error:
        raise UserError(f"{path / ARCHITECTURE} is nested without end; {_REMEDY}.") from error


def _require_shapes(path: Path, expected: dict[str, Shape]) -> None:
    """Compare the weights' names and shapes with those expected, before anything is allocated.

    Raises:
        UserError: they differ, or the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({plain(str(error))}); {_REMEDY}.") from error
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            is_there, wanted = (
                str(list(s[name])) if name in s else "none" for s in (found, expected)
            )
            raise UserError(
                f"{path} does not fit {ARCHITECTURE}: {plain(name)} is {is_there}, its place asks for "
                f"{wanted}; {_REMEDY}."
            )


def _frozen(generator: Generator, device: torch.device) -> Generator:
    return generator.float().eval().requires_grad_(False).to(device)


def from_checkpoint(checkpoint: Checkpoint) -> Generator:
    """A generator with a checkpoint's architecture and weights."""
    generator = Generator(checkpoint.config)
    generator.load_state_dict(checkpoint.weights)
    return generator


def save_generator(generator: Generator, folder: Path, dtype: torch.dtype = torch.half) -> None:
    """Write the weights and, as JSON, the architecture."""
    weights = {name: tensor.to(dtype) for name, tensor in generator.state_dict().items()}
    save_weights(folder / WEIGHTS, weights)
    write_json(folder / ARCHITECTURE, generator.config.to_json())


def of_class(checkpoint: Checkpoint, number: int | None) -> Checkpoint:
    """The generator that draws one class only; the checkpoint itself where no number is given.

    Raises:
        UserError: there is no such class.
    """
    if number is None:
        return checkpoint
    config = checkpoint.config
    if not 0 <= number < config.classes:
        there = f"classes 0 to {config.classes - 1}" if config.classes else "no classes"
        raise UserError(
            f"--class {number}: this generator has {there}; choose one of them or leave it out."
        )
    values = vars(config) | {"only_class": number}
    return Checkpoint(
        Architecture(**values), checkpoint.weights, checkpoint.origin, checkpoint.notes
    )


def write_converted(checkpoint: Checkpoint, folder: StageFolder) -> Result:
    """Write a checkpoint as a generator folder of ours, in full precision.

    The folder goes by the hash of the file: samples drawn from either may be used with the other. Of one
    class alone it goes by a hash of both.
    """
    save_generator(from_checkpoint(checkpoint), folder.path, torch.float32)
    size, channels = checkpoint.config.resolution, "-".join(map(str, checkpoint.config.channels))
    print(f"{checkpoint.origin}, {size} px, channels {channels}")
    if checkpoint.config.classes and checkpoint.config.only_class is None:
        print(f"it draws {checkpoint.config.classes} classes; choose one by sample --class")
    for note in checkpoint.notes:
        print(f"note: {note}")
    figures = {"origin": checkpoint.origin, "notes": checkpoint.notes}
    same_as = folder.input_hash("checkpoint")
    if (only := checkpoint.config.only_class) is not None:
        same_as = hashlib.sha256(f"{same_as} class {only}".encode()).hexdigest()
    return Result([WEIGHTS, ARCHITECTURE], figures, same_as=same_as)
