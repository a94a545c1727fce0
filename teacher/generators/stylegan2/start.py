"""What a training of a generator goes on from: the networks of an earlier one, ours or another system's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from common.checkpoints import is_state, load_state, load_weights
from common.errors import UserError
from common.stage_folder import artifact_hash
from teacher.generators.lineage import lineage
from teacher.generators.stylegan2.architecture import (
    Architecture,
    ArchitectureError,
    GeneratorConfig,
)
from teacher.generators.stylegan2.discriminator import Discriminator
from teacher.generators.stylegan2.files import DISCRIMINATOR, load
from teacher.generators.stylegan2.formats import read_training
from teacher.generators.stylegan2.network import Generator

Weights = Mapping[str, Tensor]
_REMEDY = "name another generator.start"


@dataclass(frozen=True)
class Start:
    """Networks that a training begins with.

    Attributes:
        network: architecture of the generators.
        generator: weights of the one that is trained.
        average: weights of its moving average.
        discriminator: weights; none where there is no discriminator.
        ancestors: hashes of the generator that it is and of those that this one began with, newest first.
        notes: what people should know of it.
    """

    network: Architecture
    generator: Weights
    average: Weights
    discriminator: Weights | None
    ancestors: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_start(path: Path) -> Start:
    """Read a start.

    Args:
        path: a generator folder; a checkpoint of the stage `generator`; or a file of another system that
            `convert` reads.

    Raises:
        UserError: it cannot be read, or our training cannot go on from it.
    """
    start = _read(path)
    network = start.network
    plain = Architecture.of(network_of_start(GeneratorConfig(), network, path))
    if network != plain:
        said = ", ".join(f"{n} {v}" for n, v in vars(network).items() if v != getattr(plain, n))
        raise UserError(f"{path} is of a kind that is not trained here ({said}); {_REMEDY}.")
    return start


def network_of_start(asked: GeneratorConfig, start: Architecture, path: Path) -> GeneratorConfig:
    """The architecture of a training with a start: the start's, unless another one is asked for.

    Args:
        asked: the option, whose default asks for nothing.
        path: of the start.

    Raises:
        UserError: another one is asked for.
    """
    network = GeneratorConfig(**{name: getattr(start, name) for name in vars(asked)})
    if asked not in (network, GeneratorConfig()):
        raise UserError(
            f"generator.network is {_told(asked)}, and {path} is {_told(network)}; leave out "
            f"generator.network, or {_REMEDY}."
        )
    return network


def _told(network: GeneratorConfig) -> str:
    widths = "-".join(map(str, network.channels))
    return (
        f"{network.resolution} px, channels {widths}, z {network.latent_size}, w {network.w_dim}, "
        f"{network.mapping_layers} mapping layers"
    )


def _read(path: Path) -> Start:
    if path.is_dir():
        return _of_folder(path)
    if is_state(path):
        return _of_state(path)
    found = read_training(path)
    weights = found.generator.weights, found.average.weights, found.discriminator
    return Start(found.average.config, *weights, (artifact_hash(path),), tuple(found.notes))


def _of_folder(path: Path) -> Start:
    """A generator folder keeps the average only; it is what is trained on, too."""
    average = load(path, torch.device("cpu"))
    state = average.state_dict()
    discriminator = None
    if (path / DISCRIMINATOR).exists():
        network = Discriminator(average.config.channels)
        load_weights(network, path / DISCRIMINATOR, "copy the whole folder again")
        discriminator = _finite(network, path / DISCRIMINATOR)
    return Start(average.config, state, state, discriminator, lineage(path))


def _of_state(path: Path) -> Start:
    """A checkpoint of an interrupted training."""
    try:
        state = load_state(path)
        network = Architecture.from_json(state["network"])
        networks = [Generator(network), Generator(network), Discriminator(network.channels)]
        names = ("generator", "average", "discriminator")
        for one, name in zip(networks, names, strict=True):
            one.load_state_dict(state[name])
        ancestors = tuple(map(str, state["ancestors"]))
    except (
        SafetensorError, KeyError, ValueError, TypeError, RuntimeError, ArchitectureError,
    ) as error:  # fmt: skip
        raise UserError(f"{path} is no checkpoint of the stage generator; {_REMEDY}.") from error
    generator, average, discriminator = (_finite(one, path) for one in networks)
    return Start(network, generator, average, discriminator, (artifact_hash(path), *ancestors))


def _finite(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """The network's weights.

    Raises:
        UserError: they hold a value that is no finite number.
    """
    state = network.state_dict()
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds values that are no finite numbers; {_REMEDY}.")
    return state
