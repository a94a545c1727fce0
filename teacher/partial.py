"""Teachers from partial masks: only some pixels have a class, as strokes leave them.

A network that sees one sample a step, of which perhaps one class is known, forgets all others. So
ensembles of pixels learn first: they see the known pixels of all samples at once (`stroke_learner.py`). The
teacher then learns whole masks of these samples and of fresh ones: known classes and, elsewhere, what the
ensembles answer together, as far as they are sure.

Shapes: N = samples, R = side of the image.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.annotations import join_samples
from datasets.labels import LabelSet
from teacher.generators.base import FeatureGenerator
from teacher.generators.sampling import draw, features_of, latents_of_seed
from teacher.packing import packing_of
from teacher.predict import Annotated
from teacher.shots import Shot, Variation, training_features
from teacher.stroke_learner import StrokeLearner, together

# Masks of which fewer pixels have a class are partial. Where only the borders are left out, a network that
# learns these masks alone loses ten points of mIoU. docs/experiments.md
_KNOWN = 0.9
# Steps of an ensemble: after each sample, of all of them together at most, and when it has seen all.
_STEPS_EACH, _STEPS_OF_ALL, _STEPS_AFTER = 120, 4000, 200
# Ensembles, which see other pixels at every step and so do not make the same mistakes; members of each.
_ENSEMBLES, _MEMBERS = 4, 3
_EPOCH = 5  # steps
_ANNOTATED = 0.5  # share of the steps that learn an annotated sample
_WEIGHT = 0.5  # of an answer that is certain, beside a known class
_SEED = 1 << 41  # of the fresh samples


class PartialRecipe(Variation, Protocol):
    """What of `TeacherStage` matters here."""

    @property
    def answered_samples(self) -> int:
        """Fresh samples that are learned as well."""

    @property
    def seed(self) -> int:
        """Seed of the ensembles."""


def is_partial(masks: Tensor, ignore_index: int) -> bool:
    """Whether more than a tenth of the pixels of masks [N, R, R] have no class."""
    return bool((masks != ignore_index).float().mean() < _KNOWN)


def tell_pixels(masks: Tensor, labels: LabelSet) -> str:
    """How many pixels of each class partial masks [N, R, R] have, in a sentence."""
    counts = torch.bincount(masks.flatten(), minlength=256).tolist()
    each = ", ".join(f"{name} {count}" for name, count in zip(labels.names, counts, strict=False))
    known = (masks != labels.ignore_index).float().mean().item()
    return f"{len(masks)} samples with a class on {known:.1%} of their pixels: {each}."


def fill_in(mask: Tensor, answer: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """A whole mask from a partial one, and what its pixels count.

    Args:
        mask: uint8 [N, R, R].
        answer: probabilities [N, C, R, R] where it has no class.

    Returns:
        uint8 and float32 [N, R, R].
    """
    sure, classes = answer.max(1)
    known = (mask != ignore_index).to(answer.device)
    filled = torch.where(known, mask.to(answer.device), classes.to(torch.uint8))
    return filled, torch.where(known, 1.0, _WEIGHT * sure.square())


def answered_shots(
    generator: FeatureGenerator, training: Annotated, labels: LabelSet, recipe: PartialRecipe
) -> Callable[[], Iterator[Shot]]:
    """Lets ensembles learn partial masks; gives the shots of an epoch, whole masks, when called."""
    source = latents_of_seed(generator, _SEED, 1.0)
    fresh = draw(generator, source, range(recipe.answered_samples))
    nobody = torch.full((len(fresh), *training.masks.shape[1:]), labels.ignore_index)
    samples = join_samples([training.samples, fresh])
    masks = torch.cat([training.masks, nobody.to(torch.uint8)])

    packing, size = packing_of(generator, source, len(samples)), generator.resolution
    channels, nothing = packing.channels, labels.ignore_index
    learners = [
        StrokeLearner(channels, len(labels), size, nothing, seed, _MEMBERS)
        for seed in range(recipe.seed * _ENSEMBLES, (recipe.seed + 1) * _ENSEMBLES)
    ]

    def pack(i: int) -> list[Tensor]:
        return packing.pack(features_of(generator, samples.take([i]).latents))

    for i in tqdm(range(len(samples)), desc="features", leave=False):
        features = pack(i)
        for learner in learners:
            learner.offer(features)
    # One sample after the other, as they were drawn: all at once end in worse answers.
    count = len(training.samples)
    for i in tqdm(range(count), desc="known pixels", leave=False):
        features = pack(i)
        for learner in learners:
            learner.see(i, features, masks[i].numpy())
            learner.learn(min(_STEPS_EACH, _STEPS_OF_ALL // count + 1))
    for learner in learners:
        learner.finish(_STEPS_AFTER)

    def answer(i: int) -> Tensor:
        features = pack(i)
        members = torch.cat([learner.members(features) for learner in learners], 1)
        return together(members, samples.images[i])

    answered = tqdm(range(len(samples)), desc="answers", leave=False)
    filled = [fill_in(masks[[i]], answer(i), nothing) for i in answered]

    def shots() -> Iterator[Shot]:
        every, annotated = torch.randint(len(samples), (_EPOCH,)), torch.randint(count, (_EPOCH,))
        for i in torch.where(torch.rand(_EPOCH) < _ANNOTATED, annotated, every).tolist():
            features = training_features(generator, samples.take([i]), recipe)
            yield Shot(features, *filled[i])

    return shots
