"""What a step of the teacher learns from: a sample's features, varied, and its mask."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from common.errors import UserError
from datasets.annotations import Samples
from teacher.generators.base import FeatureGenerator, Latents, to_device, with_fresh_noise
from teacher.predict import Annotated


class Variation(Protocol):
    """How features are varied; see `TeacherStage`."""

    @property
    def fresh_noise(self) -> bool:
        """Draw new noise inputs."""

    @property
    def style_mixing_from(self) -> int:
        """Side in pixels of the first layers that take another sample's code; 0 for none."""


class Shot(NamedTuple):
    """What a step learns from.

    Attributes:
        features: a sample's feature maps [1, C, r, r].
        mask: its classes, uint8 [1, S, S].
        weight: of its pixels [1, S, S]; none where all count alike.
    """

    features: Sequence[Tensor]
    mask: Tensor
    weight: Tensor | None = None


def whole_masks(
    generator: FeatureGenerator, training: Annotated, variation: Variation
) -> Iterator[Shot]:
    """Every annotated sample once, in random order."""
    for i in torch.randperm(len(training.samples)).tolist():
        features = training_features(generator, training.samples.take([i]), variation)
        yield Shot(features, training.masks[[i]])


@torch.no_grad()
def training_features(
    generator: FeatureGenerator, samples: Samples, variation: Variation
) -> list[Tensor]:
    """Feature maps of samples, varied in ways that leave their masks true."""
    latents = to_device(samples.latents, generator.device)
    if variation.fresh_noise:
        latents = with_fresh_noise(latents)
    if variation.style_mixing_from:
        latents = _with_mixed_styles(generator, latents, variation.style_mixing_from)
    return generator.synthesise(latents)[1]


def _with_mixed_styles(generator: FeatureGenerator, latents: Latents, side: int) -> Latents:
    """The same samples where layers from `side` px on have, in half of the calls, a random other code.

    Raises:
        UserError: the generator takes one code for all layers.
    """
    if not generator.layer_sides:
        raise UserError(
            "teacher.style_mixing_from needs a generator whose layers have codes of their own, which this "
            "one has not; set it to 0."
        )
    code, device = latents[generator.code], generator.device
    z = torch.randn(len(code), generator.z_size, device=device)
    other = generator.latents(generator.inputs_of_z(z), 1.0)[generator.code]
    fine = torch.tensor([s >= side for s in generator.layer_sides], device=device)
    mixed = fine[None, :, None] & (torch.rand(()) < 0.5)
    return latents | {generator.code: torch.where(mixed, other, code)}
