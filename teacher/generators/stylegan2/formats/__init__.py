"""Checkpoints of StyleGAN2 generators that other projects write -> our architecture and weights.

All formats hold the same tensors under other names. A format is a file of this package with two
functions: `claims(file)` says whether a file is of this format, `read(file)` reads it. To add one, write
such a file and name it in `FORMATS`. Reading is strict: a tensor that is missing or left over is an error
that names it. No code from a file is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from teacher.generators.stylegan2.formats import (
    nvidia_pytorch,
    nvidia_state_dict,
    nvidia_tensorflow,
    rosinality,
)
from teacher.generators.stylegan2.formats.base import (
    Checkpoint,
    CheckpointFile,
    CheckpointFormat,
    reading,
)
from teacher.generators.stylegan2.formats.discriminators import read_discriminator
from teacher.generators.stylegan2.formats.pickle_stack import Inert
from teacher.generators.stylegan2.formats.refusal import Refusal, told
from teacher.generators.stylegan2.formats.state_dicts import AVERAGES

__all__ = ["FORMATS", "Checkpoint", "Training", "read_checkpoint", "read_training"]

FORMATS: dict[str, CheckpointFormat] = {
    "rosinality": rosinality,
    "nvidia_pytorch": nvidia_pytorch,
    "nvidia_state_dict": nvidia_state_dict,
    "nvidia_tensorflow": nvidia_tensorflow,
}


class Training(NamedTuple):
    """The networks in a file of a training.

    Args:
        average: the moving average of the generator, or the generator where there is none.
        generator: the generator that was trained; the average where it is alone.
        discriminator: state of our `Discriminator`; none where there is none.
        notes: what the file lacked and what was taken instead.
    """

    average: Checkpoint
    generator: Checkpoint
    discriminator: Mapping[str, Tensor] | None
    notes: list[str]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a generator of any format in `FORMATS`.

    Raises:
        UserError: the file is damaged, asks for code, is of an unknown format, or not StyleGAN2.
    """
    with reading(path):
        return _generator_of(CheckpointFile(path))


def read_training(path: Path) -> Training:
    """Read all networks that a file of any format in `FORMATS` has.

    TensorFlow's files give the average alone.

    Raises:
        UserError: as `read_checkpoint`, or the networks do not fit together.
    """
    with reading(path):
        file = CheckpointFile(path)
        average = generator = _generator_of(file)
        rest = file.without(AVERAGES)
        if rest.content and any(one.claims(rest) for one in FORMATS.values()):
            generator = _generator_of(rest)
        if generator.config != average.config:
            raise Refusal("its generator and the moving average of it differ in their architecture")
        found = read_discriminator(file.content, average.config.channels)
        if found is None:
            return Training(average, generator, None, average.notes)
        return Training(average, generator, found.weights, [*average.notes, *found.notes])


def _generator_of(file: CheckpointFile) -> Checkpoint:
    for checkpoint_format in FORMATS.values():
        if checkpoint_format.claims(file):
            return checkpoint_format.read(file)
    if file.failure:
        raise file.failure
    raise Refusal(
        f"it has no StyleGAN2 generator that is known here (it holds {_summary(file.content)})"
    )


def _summary(content: object) -> str:
    """What a file holds instead of a generator, for the error text."""
    if isinstance(content, dict):
        whole = [f"{told(k)}, {_summary(v)}" for k, v in content.items() if isinstance(v, Inert)]
        names = sorted(key for key in content if isinstance(key, str))[:6]
        return next(iter(whole), ", ".join(map(told, names)) or "nothing")
    if isinstance(content, Inert):
        return f"an object of {content.name}; save its state_dict instead"
    return f"a {type(content).__name__}"
