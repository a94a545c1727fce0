"""Checkpoints of StyleGAN2 generators that other projects write -> our architecture and weights.

All formats hold the same tensors under other names. A format is a file of this package with two
functions: `claims(file)` says whether a file is of this format, `read(file)` reads it. To add one, write
such a file and name it in `FORMATS`. Reading is strict: a tensor that is missing or left over is an error
that names it. No code from a file is run.
"""

from pathlib import Path

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
from teacher.generators.stylegan2.formats.pickle_stack import Inert
from teacher.generators.stylegan2.formats.refusal import Refusal, told

__all__ = ["FORMATS", "Checkpoint", "read_checkpoint"]

FORMATS: dict[str, CheckpointFormat] = {
    "rosinality": rosinality,
    "nvidia_pytorch": nvidia_pytorch,
    "nvidia_state_dict": nvidia_state_dict,
    "nvidia_tensorflow": nvidia_tensorflow,
}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a generator of any format in `FORMATS`.

    Raises:
        UserError: the file is damaged, asks for code, is of an unknown format, or not StyleGAN2.
    """
    with reading(path):
        file = CheckpointFile(path)
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
