"""StyleGAN2 generators on disk: our folders, and checkpoint files of other systems."""

from pathlib import Path

import torch

from common.checkpoints import load_weights, save_weights
from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import Result, StageFolder
from teacher.generators.stylegan2.formats import Checkpoint, read_checkpoint
from teacher.generators.stylegan2.network import Generator, GeneratorConfig

WEIGHTS = "generator.safetensors"
ARCHITECTURE = "generator.json"


def claims(path: Path) -> bool:
    """Whether a path is ours to read: any checkpoint file, and a folder that names no other family."""
    if path.is_file():
        return True
    return read_json(path / ARCHITECTURE).get("family", "stylegan2") == "stylegan2"


def load(path: Path, device: torch.device) -> Generator:
    """Read a generator in float32, frozen, for inference.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing or left over.
    """
    if path.is_file():
        return _frozen(from_checkpoint(read_checkpoint(path)), device)
    try:
        generator = Generator(GeneratorConfig.from_json(read_json(path / ARCHITECTURE)))
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} does not hold a StyleGAN2 generator: {error}") from error
    load_weights(generator, path / WEIGHTS, "copy the whole folder again")
    return _frozen(generator, device)


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


def convert_checkpoint(folder: StageFolder) -> Result:
    """Read the input `checkpoint` and write it as a generator folder of ours, in full precision.

    The folder goes by the hash of the file: samples drawn from either may be used with the other.
    """
    checkpoint = read_checkpoint(folder.inputs["checkpoint"])
    save_generator(from_checkpoint(checkpoint), folder.path, torch.float32)
    size, channels = checkpoint.config.resolution, "-".join(map(str, checkpoint.config.channels))
    print(f"{checkpoint.origin}, {size} px, channels {channels}")
    for note in checkpoint.notes:
        print(f"note: {note}")
    figures = {"origin": checkpoint.origin, "notes": checkpoint.notes}
    return Result([WEIGHTS, ARCHITECTURE], figures, same_as=folder.input_hash("checkpoint"))
