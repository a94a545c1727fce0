"""What every generator of images offers: the protocol that the teacher and all tools know.

A family of generators lives in a folder of its own beside this file and is named in `registry.py`.

Shapes: N = samples, C = channels of a map, r = its side, R = side of the image, D = length of a code.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from common.seeding import step_seed

# By name, tensors [N, ...]: all that a sample's image and feature maps are made from. Stored as it is.
Latents = dict[str, Tensor]

_NOISE = re.compile(r"noise\.(\d+)")


class FeatureMap(NamedTuple):
    """Size of one feature map: C, r."""

    channels: int
    side: int


class FeatureGenerator(Protocol):
    """Draws images, and shows the feature maps that it draws them from.

    What the tensors of its latents mean is the generator's own affair, with two exceptions. The one named
    `code` says what is drawn, and is what an inversion looks for: [N, D], or [N, layers, D] where every
    layer may have its own. Those named `noise.0`, `noise.1`, ... are noise inputs [N, 1, r, r]: they are
    unit normal, and fresh ones change details only.
    """

    @property
    def resolution(self) -> int:
        """R; images are square."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def features(self) -> Mapping[str, FeatureMap]:
        """The feature maps by name, in the order in which `synthesise` gives them."""

    @property
    def z_size(self) -> int:
        """Length of z, the normal vector that a sample begins with."""

    @property
    def code(self) -> str:
        """Name of the latent that says what is drawn."""

    @property
    def layer_sides(self) -> Sequence[int]:
        """Side at which each layer of a code acts, coarse to fine; empty where a code has no layers."""

    def random_inputs(self, seed: int, numbers: Sequence[int]) -> Latents:
        """What samples `numbers` of a seed begin with, on the CPU; each depends on (seed, number) alone.

        Called from threads that run ahead of the device: it must not touch the global random state.
        """

    def inputs_of_z(self, z: Tensor) -> Latents:
        """What samples of given z [N, z_size] begin with: all else is the generator's constant."""

    def latents(self, inputs: Latents, psi: float) -> Latents:
        """Latents of such inputs, on the device.

        Args:
            psi: truncation: 1 leaves a sample, 0 gives the mean sample whatever the inputs.
        """

    def synthesise(self, latents: Latents) -> tuple[Tensor, list[Tensor]]:
        """Images [N, 3, R, R], nominally in [-1, 1], and the feature maps [N, C, r, r] in order."""


class GeneratorFamily(Protocol):
    """How generators of one kind are read; a module with these two functions is one."""

    def claims(self, path: Path) -> bool:
        """Whether a folder or file holds a generator of this family."""

    def load(self, path: Path, device: torch.device) -> FeatureGenerator:
        """Read it in float32, frozen, for inference on a device."""


def inputs_by_number(
    seed: int, numbers: Sequence[int], draw: Callable[[torch.Generator], Latents]
) -> Latents:
    """Inputs of samples, each drawn from a random state of (seed, number), side by side.

    Args:
        draw: gives one sample's tensors, without the dimension N.
    """
    samples = [draw(torch.Generator().manual_seed(step_seed(seed, n))) for n in numbers]
    return {name: torch.stack([s[name] for s in samples]) for name in samples[0]}


def class_count(generator: FeatureGenerator) -> int:
    """Number of classes of a conditional generator; 0 for any other.

    Such a generator has an attribute `classes`, and its inputs a tensor `class`, int64 [N]. Where nobody
    chooses, `random_inputs` draws classes and in `inputs_of_z` they take turns.
    """
    return int(getattr(generator, "classes", 0))


def take(latents: Latents, numbers: Sequence[int]) -> Latents:
    """The latents of some samples."""
    return {name: tensor[list(numbers)] for name, tensor in latents.items()}


def join(parts: Sequence[Latents]) -> Latents:
    """Latents of several batches as one."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def to_device(latents: Latents, device: torch.device | str) -> Latents:
    """The latents on a device."""
    return {name: tensor.to(device) for name, tensor in latents.items()}


def noise_names(latents: Latents) -> list[str]:
    """Names of the noise inputs, in the order of their numbers."""
    found = [m for name in latents if (m := _NOISE.fullmatch(name))]
    return [m[0] for m in sorted(found, key=lambda m: int(m[1]))]


def with_fresh_noise(latents: Latents, state: torch.Generator | None = None) -> Latents:
    """The same samples with new noise inputs.

    Args:
        state: what to draw from; none for the global random state.
    """
    fresh = {
        name: torch.randn(latents[name].shape, generator=state, device=latents[name].device)
        for name in noise_names(latents)
    }
    return latents | fresh


def code_vectors(generator: FeatureGenerator, latents: Latents) -> Tensor:
    """One code for each sample, [N, D]; of layered codes, which must be alike, the first layer's."""
    code = latents[generator.code]
    return code[:, 0].contiguous() if generator.layer_sides else code


def channels_of(generator: FeatureGenerator) -> dict[str, int]:
    """Channels of the feature maps by name, in order."""
    return {name: channels for name, (channels, _) in generator.features.items()}


def mean_latents(generator: FeatureGenerator) -> Latents:
    """The latents of the mean sample, each [1, ...]."""
    z = torch.zeros(1, generator.z_size, device=generator.device)
    return generator.latents(generator.inputs_of_z(z), 0.0)
