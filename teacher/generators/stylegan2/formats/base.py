"""What all checkpoint formats share: the file while it is read, and the way from its names to ours."""

import argparse
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from common.errors import UserError
from common.seeding import seed_everything
from teacher.generators.stylegan2.formats.safe_pickle import Refusal, read_pickle
from teacher.generators.stylegan2.network import Generator, GeneratorConfig

MAX_DEPTH = 16  # modules nested deeper than this are not a generator
_TORCH_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # torch.save's head before zip files
_MEAN_COUNT = 4096  # mapped latents that a missing mean of w is taken over


@dataclass(frozen=True)
class Checkpoint:
    """A generator read from a file.

    Args:
        config: its architecture.
        weights: the state of our `Generator`, float32.
        origin: name of the format, for people.
        notes: what the file lacked and what was taken instead.
    """

    config: GeneratorConfig
    weights: dict[str, Tensor]
    origin: str
    notes: list[str]


class CheckpointFile:
    """A file while its format is looked for: its content is read at most once.

    Attributes:
        failure: why the content could not be read; none where it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: Exception | None = None

    @cached_property
    def is_torch(self) -> bool:
        """Whether torch.save may have written it: a zip file, or the legacy stream."""
        if zipfile.is_zipfile(self.path):
            return True
        with self.path.open("rb") as file:
            return file.read(len(_TORCH_LEGACY)) == _TORCH_LEGACY

    @cached_property
    def content(self) -> Any:
        """The data of a torch file or of a pickle (see `safe_pickle`).

        None where it cannot be read so: the file may still be of a format that is neither.
        """
        try:
            return self._read_torch() if self.is_torch else read_pickle(self.path)
        except Exception as error:  # a damaged file can fail in any way
            self.failure = error
            return None

    def _read_torch(self) -> Any:
        with torch.serialization.safe_globals([argparse.Namespace]):
            mapped = zipfile.is_zipfile(self.path)  # tensors that nobody asks for are never read
            return torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)


class CheckpointFormat(Protocol):
    """A format; a module with these two functions is one."""

    def claims(self, file: CheckpointFile) -> bool:
        """Whether the file is of this format. Looks at the kind of its content only."""

    def read(self, file: CheckpointFile) -> Checkpoint:
        """Read a file that is claimed.

        Raises:
            Refusal: it is not a generator that our architecture can be; any other exception: it is damaged.
        """


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any exception inside into one sentence that names the file.

    Raises:
        UserError: the file cannot be read, is damaged, or is refused.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except Refusal as error:
        raise UserError(f"{path} is not loaded: {error}.") from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(
            f"{path} is damaged or holds no generator ({type(error).__name__}: {error}); copy or "
            "download it again."
        ) from error


@dataclass(frozen=True)
class Naming:
    """A format's names of our tensors. k counts feature layers, i other layers, r is a resolution.

    Args:
        mapping: prefix of layer i of the mapping network.
        layer: prefix of feature layer k.
        noise: name of the constant noise of feature layer k.
        to_rgb: prefix of to-RGB layer i.
        weight: name of a convolution's weight, below the prefix.
        style_weight: name of the weight of a style's affine map, below the prefix.
        style_bias: name of the bias of a style's affine map, below the prefix.
        strength: name of the noise strength, below the prefix.
        layer_bias: name of a feature layer's bias, below the prefix.
        rgb_bias: name of a to-RGB layer's bias, below the prefix.
        constant: name of the learned constant input.
        w_mean: name of the mean of w.
        may_lack_noise: whether files may hold neither the constant noise nor the mean of w.
    """

    mapping: Callable[[int], str]
    layer: Callable[[int, int], str]
    noise: Callable[[int, int], str]
    to_rgb: Callable[[int, int], str]
    weight: str
    style_weight: str
    style_bias: str
    strength: str
    layer_bias: str
    rgb_bias: str
    constant: str
    w_mean: str
    may_lack_noise: bool = False


def rename(
    tensors: Mapping[str, Tensor], naming: Naming, origin: str, clamp: float | None = None
) -> Checkpoint:
    """Infer the architecture from the shapes, then give every tensor our name and shape.

    Args:
        tensors: all tensors of the generator by their names in the file, and no others.
        origin: name of the format, for people.
        clamp: limit of all activations, where the file sets one.

    Raises:
        Refusal: a tensor is missing, left over or of the wrong shape.
    """
    left = dict(tensors)
    config = _infer_config(left, naming, clamp)
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in Generator(config).state_dict().items()}

    weights: dict[str, Tensor] = {}
    for name, theirs in _their_names(config, naming).items():
        found = left.pop(theirs, None)
        if found is None:
            if naming.may_lack_noise and (name == "w_mean" or name.endswith(".noise")):
                continue
            raise Refusal(f"the tensor {theirs} is missing")
        if _squeezed(found.shape) != _squeezed(expected[name]):
            raise Refusal(
                f"{theirs} has the shape {list(found.shape)}, its place asks for "
                f"{list(expected[name])}"
            )
        weights[name] = found.float().reshape(expected[name]).contiguous()
    if left:
        raise Refusal(f"the tensor {min(left)} has no place in a StyleGAN2 of its kind")
    return Checkpoint(config, weights, origin, _fill_in(config, weights))


def _infer_config(
    tensors: Mapping[str, Tensor], naming: Naming, clamp: float | None
) -> GeneratorConfig:
    def shape(name: str) -> list[int]:
        if name not in tensors:
            raise Refusal(f"the tensor {name} is missing")
        return list(tensors[name].shape)

    depth = 0
    while f"{naming.mapping(depth)}weight" in tensors:
        depth += 1
    w_size, z_size = shape(f"{naming.mapping(0)}weight")
    channels = [shape(naming.constant)[-3]]
    while (r := 4 * 2 ** len(channels)) and (
        f"{naming.to_rgb(len(channels), r)}{naming.weight}" in tensors
    ):
        channels.append(shape(f"{naming.to_rgb(len(channels), r)}{naming.weight}")[-3])
    style_size = None if w_size == z_size else w_size
    return GeneratorConfig(tuple(channels), z_size, style_size, depth, clamp)


def _their_names(config: GeneratorConfig, naming: Naming) -> dict[str, str]:
    """Our tensor's name -> theirs."""
    names = {"constant": naming.constant, "w_mean": naming.w_mean}
    for i in range(config.mapping_layers):
        for kind in ("weight", "bias"):
            names[f"mapping_layers.{i}.{kind}"] = naming.mapping(i) + kind
    for k in range(2 * len(config.channels) - 1):
        r = 2 ** (2 + (k + 1) // 2)
        ours, theirs = f"layers.{k}.", naming.layer(k, r)
        names[f"{ours}conv.weight"] = theirs + naming.weight
        names[f"{ours}conv.affine.weight"] = theirs + naming.style_weight
        names[f"{ours}conv.affine.bias"] = theirs + naming.style_bias
        names[f"{ours}noise_strength"] = theirs + naming.strength
        names[f"{ours}bias"] = theirs + naming.layer_bias
        names[f"{ours}noise"] = naming.noise(k, r)
    for i in range(len(config.channels)):
        ours, theirs = f"to_rgb.{i}.", naming.to_rgb(i, 4 * 2**i)
        names[f"{ours}conv.weight"] = theirs + naming.weight
        names[f"{ours}conv.affine.weight"] = theirs + naming.style_weight
        names[f"{ours}conv.affine.bias"] = theirs + naming.style_bias
        names[f"{ours}bias"] = theirs + naming.rgb_bias
    return names


def _fill_in(config: GeneratorConfig, weights: dict[str, Tensor]) -> list[str]:
    """Draw the constant noise and the mean of w where they are missing, the same at every reading."""
    notes = []
    generator = Generator(config)
    missing = [name for name in generator.state_dict() if name not in weights]
    noise = [name for name in missing if name.endswith(".noise")]
    seed_everything(0)
    for name in noise:
        weights[name] = torch.randn_like(generator.state_dict()[name])
    if noise:
        notes.append("the file holds no constant noise: drawn from seed 0")
    if "w_mean" in missing:
        weights["w_mean"] = torch.zeros(config.w_dim)
        generator.load_state_dict(weights)
        with torch.no_grad():
            mapped = generator.mapping(torch.randn(_MEAN_COUNT, config.latent_size))
        weights["w_mean"] = mapped.mean(0)
        notes.append(f"the file holds no mean of w: taken over {_MEAN_COUNT} latents of seed 0")
    return notes


def _squeezed(shape: tuple[int, ...] | torch.Size) -> list[int]:
    return [size for size in shape if size != 1]
