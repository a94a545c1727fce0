"""From an image to the latents that draw it, by optimisation.

After Abdal et al., "Image2StyleGAN" (2019): a generator's code, one for every layer where it has layers
(W+), is moved until the generator draws the image. The start is the best of many random samples and, where
there is one, an inversion encoder's guess.

Shapes: B = images at once, D = length of a code, R = the generator's resolution.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from common.checkpoints import Checkpoints
from common.errors import UserError
from common.learner import require_finite
from common.prefetch import prefetch
from common.seeding import seed_everything
from datasets.annotations import Samples
from datasets.sheets import ImageArray, grid, to_array
from teacher.generators.base import (
    FeatureGenerator,
    Latents,
    join,
    mean_latents,
    noise_names,
)
from teacher.generators.image_distance import FeatureMaps, ImageDistance, psnr
from teacher.generators.sampling import batch_workers, chunks, feature_floats, sample_batch_size

Guess = Callable[[Tensor], Tensor]  # uint8 images [B, 3, R, R] -> one code for each, [B, D]

_COARSE = 8  # side at which a start is looked for


@dataclass(frozen=True)
class InversionConfig:
    """How images are inverted.

    Args:
        steps: optimiser steps for each image, at most; 0 leaves the start as it is.
        learning_rate: Adam's peak learning rate, after a linear warm-up over a twentieth of the steps
            and before a cosine to zero over the last quarter.
        random_starts: random samples among which the start is looked for.
        space: w+ for a code of its own for every layer, w for one that all layers share.
        perceptual_weight: weight of the distance in feature maps, where a network is given for it.
        mean_weight: weight of the squared distance of a code from the mean sample's; more makes the
            result more like a face and less like the image.
        noise_learning_rate: Adam's peak learning rate for the noise inputs; 0 keeps the constant ones.
        noise_regularisation: weight of what keeps the noise inputs from copying the image.
        patience: steps without any image of the batch coming nearer by a thousandth, after which the
            learning rate begins to fall; 0 for never.
        seed: seed of the random starts.
    """

    steps: int = 300
    learning_rate: float = 0.1
    random_starts: int = 256
    space: Literal["w+", "w"] = "w+"
    perceptual_weight: float = 0.3
    mean_weight: float = 1e-3
    noise_learning_rate: float = 0.0
    noise_regularisation: float = 100.0
    patience: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.random_starts < 0:
            raise UserError(
                f"inversion.steps is {self.steps} and inversion.random_starts is {self.random_starts}; "
                "neither can be negative."
            )


class Inverted(NamedTuple):
    """What an inversion found.

    Attributes:
        samples: the given images with the latents found for them.
        drawn: what the generator draws from these latents, uint8 [N, 3, R, R].
        psnr: of each in dB, [N].
        seconds: for an image, in batches that suit the device.
    """

    samples: Samples
    drawn: Tensor
    psnr: Tensor
    seconds: float

    def sheet(self, shown: int = 12) -> ImageArray:
        """The first images beside what the generator draws instead."""
        columns = {"image": self.samples.images[:shown], "drawn again": self.drawn[:shown]}
        return grid({name: [*map(to_array, images)] for name, images in columns.items()})


def invert(
    generator: FeatureGenerator,
    images: Tensor,
    config: InversionConfig,
    maps: FeatureMaps | None = None,
    checkpoints: Checkpoints | None = None,
    guess: Guess | None = None,
) -> Inverted:
    """Find latents for images.

    Args:
        images: uint8 [N, 3, R, R].
        maps: of the network in which the perceptual distance is taken.
        checkpoints: where finished images are kept, so that a killed inversion goes on behind them.
        guess: an inversion encoder's, a start beside the random ones.

    Raises:
        UserError: the loss is not finite.
    """
    inversion = _Inversion(generator, config, maps, guess)
    task = f"{config} {hashlib.sha256(images.numpy().tobytes()).hexdigest()}"
    state: dict[str, Any] = {"task": task, "done": 0, "seconds": 0.0, "found": {}, "about": {}}
    if checkpoints and (saved := checkpoints.newest()) and saved["task"] == task:
        state = saved
    step = max(1, sample_batch_size(generator) // 2)  # gradients need room beside the features
    batches = chunks(generator, range(state["done"], len(images)), step)
    parts = (images[numbers].to(generator.device) for numbers in batches)
    bar = tqdm(total=len(images), initial=state["done"], desc="invert", unit="img")
    batch_bytes = 32 * step * feature_floats(generator)
    begun = monotonic()
    with batch_workers(generator.device, batch_bytes) as (workers, count):
        for latents, about in prefetch(workers, inversion, parts, count):
            for key, new in (("found", latents), ("about", about)):
                state[key] = join([state[key], new]) if state[key] else new
            state["done"] = len(state["about"]["psnr"])
            state["seconds"] += monotonic() - begun
            begun = monotonic()
            if checkpoints:
                checkpoints.save(state["done"], state)
            bar.update(len(about["psnr"]))
            bar.set_postfix(psnr=f"{state['about']['psnr'].mean():.1f} dB")
    bar.close()
    samples, about = Samples(state["found"], images), state["about"]
    return Inverted(samples, about["drawn"], about["psnr"], state["seconds"] / len(images))


class _Inversion:
    """What all images have in common: the generator, its starts, and how a batch is inverted."""

    def __init__(
        self,
        generator: FeatureGenerator,
        config: InversionConfig,
        maps: FeatureMaps | None,
        guess: Guess | None,
    ) -> None:
        self.generator, self.config, self.guess = generator, config, guess
        self.distance = ImageDistance(maps, config.perceptual_weight)
        seed_everything(config.seed)
        z = torch.randn(config.random_starts, generator.z_size)
        random = generator.latents(generator.inputs_of_z(z), 0.7)
        self.constant = mean_latents(generator)
        self.mean = self.constant.pop(generator.code)
        self.starts = torch.cat([self.mean, random[generator.code]])
        with torch.no_grad():
            some = chunks(generator, range(len(self.starts)))
            self.candidates = torch.cat([_coarse(self._draw(self.starts[n])) for n in some])

    def _draw(self, code: Tensor, noise: Latents | None = None) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] of codes [B, D] or [B, layers or 1, D]."""
        return self.generator.synthesise(self._latents(code, noise or {}))[0]

    def _latents(self, code: Tensor, noise: Latents) -> Latents:
        """A code for every layer, also where all share one; all else as in the mean sample."""
        constant = {k: t.expand(len(code), *t.shape[1:]) for k, t in self.constant.items()}
        whole = code.expand(len(code), *self.mean.shape[1:])
        return {self.generator.code: whole} | constant | noise

    def __call__(self, images: Tensor) -> tuple[Latents, dict[str, Tensor]]:
        """Invert a batch; gives its latents and, as `drawn` and `psnr`, what they draw, on the CPU."""
        config = self.config
        targets = images.float() / 127.5 - 1
        with torch.no_grad():
            target_features = self.distance.features(targets)
            code = self._start(images, targets, target_features)
        code.requires_grad_(True)
        moved = bool(config.noise_learning_rate)
        noise = {
            name: self.constant[name].repeat(len(images), 1, 1, 1).requires_grad_(moved)
            for name in noise_names(self.constant)
        }
        maps = list(noise.values())
        groups: list[dict[str, Any]] = [{"params": [code], "peak": config.learning_rate}]
        groups += [{"params": maps, "peak": config.noise_learning_rate}] if moved else []
        optimiser = torch.optim.Adam(groups)

        schedule = _Schedule(config)
        while (share := schedule.share()) is not None:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * share
            far = self.distance(self._draw(code, noise), targets, target_features)
            loss = (far + config.mean_weight * self._distance_from_mean(code)).sum()
            if moved:
                likeness = sum(_self_likeness(n).sum() for n in maps)
                loss = loss + config.noise_regularisation * likeness
            require_finite(loss, "the inversion", schedule.step, "lower inversion.learning_rate")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if moved:
                _normalise(maps)
            schedule.saw(far.detach())

        with torch.no_grad():
            drawn = self._draw(code, noise).clamp(-1, 1)
            latents = {k: t.detach().cpu() for k, t in self._latents(code, noise).items()}
        uint8 = ((drawn + 1) * 127.5).round().to(torch.uint8)
        return latents, {"drawn": uint8.cpu(), "psnr": psnr(drawn, images).cpu()}

    def _distance_from_mean(self, code: Tensor) -> Tensor:
        """Mean squared distance of codes from the mean sample's, [B]."""
        mean = self.mean[:, : code.shape[1]] if self.generator.layer_sides else self.mean
        return (code - mean).square().mean(tuple(range(1, code.ndim)))

    def _start(self, images: Tensor, targets: Tensor, target_features: Sequence[Tensor]) -> Tensor:
        """Codes of the nearest random samples, or as guessed where that is nearer."""
        nearest = torch.cdist(_coarse(targets), self.candidates).argmin(1)
        start = self.starts[nearest]
        if self.generator.layer_sides and self.config.space == "w":
            start = start[:, :1].clone()
        if self.guess is None:
            return start
        guessed = self.guess(images)
        if self.generator.layer_sides:
            guessed = guessed.unsqueeze(1).expand_as(start)
        far = [self.distance(self._draw(c), targets, target_features) for c in (start, guessed)]
        nearer = (far[1] < far[0]).view(-1, *[1] * (start.ndim - 1))
        return torch.where(nearer, guessed, start)


class _Schedule:
    """Shares of the learning rate: up, level until it brings nothing more, and down to zero."""

    def __init__(self, config: InversionConfig) -> None:
        self.warm, self.down = max(1, config.steps // 20), max(1, config.steps // 4)
        self.patience, self.step = config.patience, 0
        self.last = config.steps  # the step at which the rate is zero
        self.best: Tensor | None = None
        self.waited = 0

    def share(self) -> float | None:
        """The next step's; None at the end."""
        if self.step >= self.last:
            return None
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (self.last - self.step) / self.down))
        return min(1.0, (self.step + 1) / self.warm) * fall

    def saw(self, distances: Tensor) -> None:
        """What a step has reached, [B]."""
        self.step += 1
        best = distances if self.best is None else self.best
        nearer = distances < 0.999 * best
        self.waited = 0 if bool(nearer.any()) else self.waited + 1
        self.best = torch.where(nearer, distances, best)
        if self.patience and self.waited == self.patience:
            self.last = min(self.last, self.step + self.down)


def _coarse(images: Tensor) -> Tensor:
    """Small copies by which a start is looked for, [B, 3 * 8 * 8]."""
    return F.adaptive_avg_pool2d(images, _COARSE).flatten(1)


def _self_likeness(noise: Tensor) -> Tensor:
    """How much noise [B, 1, r, r] resembles itself moved by a pixel, at its own and smaller sizes, [B].

    After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), appendix D.
    """
    like = torch.zeros(len(noise), device=noise.device)
    while True:
        for axis in (2, 3):
            like = like + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return like
        noise = 2 * F.avg_pool2d(noise, 2)  # of unit deviation again, if it is noise


@torch.no_grad()
def _normalise(noise: Sequence[Tensor]) -> None:
    """Back to mean zero and unit deviation."""
    for layer in noise:
        layer -= layer.mean((1, 2, 3), keepdim=True)
        layer /= layer.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)
