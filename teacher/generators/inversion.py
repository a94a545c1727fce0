"""From a picture to the latents that draw it, by optimisation.

After Abdal et al., "Image2StyleGAN" (2019): a style for every layer (W+) is moved until the generator
draws the picture. The start is the best of many random faces and, where there is one, an encoder's guess.
The distance is taken at several sizes, and in the feature maps of a network where one is given.

Shapes: B = pictures at once, L = layers, D = length of a style, R = the generator's resolution.
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
from common.prefetch import ahead
from common.seeding import seed_everything
from datasets.annotations import Samples
from datasets.sheets import Picture, as_picture, grid
from teacher.generators.sampling import chunks, floats_of_features, samples_at_once, side_by_side
from teacher.generators.stylegan2.network import Generator

Maps = Callable[[Tensor], Sequence[Tensor]]  # pictures [B, 3, R, R] in [0, 255] -> feature maps
Guess = Callable[[Tensor], Tensor]  # uint8 pictures [B, 3, R, R] -> one style for each, [B, D]

_SIZES = (1, 2, 4, 8)  # at which pictures are compared: full, half, ...
_COARSE = 8  # side at which a start is looked for


@dataclass(frozen=True)
class InversionConfig:
    """How pictures are inverted.

    Args:
        steps: of the optimiser, at most, for each picture; 0 leaves the start as it is.
        learning_rate: Adam's, after a linear warm-up over a twentieth of the steps and before a cosine to zero
            over the last quarter.
        random_starts: random faces among which the start is looked for.
        space: a style for every layer (w+), or one for all (w).
        perceptual_weight: weight of the distance in feature maps, where a network is given.
        mean_weight: weight of the squared distance from w to its mean; larger is more face-like and less
            alike.
        noise_learning_rate: Adam's for the noise inputs; 0 keeps the checkpoint's constant noise.
        noise_regularisation: weight of what keeps the noise noise, not a copy of the picture.
        patience: the decay of the rate begins early once this many steps have brought no picture of a batch
            nearer by a thousandth; 0 for never.
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
                f"inversion.steps is {self.steps} and inversion.random_starts {self.random_starts}; neither can be "
                "negative."
            )


class Inverted(NamedTuple):
    """Samples that hold the given pictures and the latents found for them.

    Attributes:
        drawn: what the generator draws from these latents, uint8 [N, 3, R, R].
        psnr: of each in dB, [N].
        seconds: for each picture, in batches that suit the device.
    """

    samples: Samples
    drawn: Tensor
    psnr: Tensor
    seconds: float

    def sheet(self, shown: int = 12) -> Picture:
        """The first pictures beside what the generator draws instead."""
        columns = {"picture": self.samples.images[:shown], "drawn again": self.drawn[:shown]}
        return grid({name: [*map(as_picture, images)] for name, images in columns.items()})


def invert(
    generator: Generator,
    pictures: Tensor,
    config: InversionConfig,
    maps: Maps | None = None,
    checkpoints: Checkpoints | None = None,
    guess: Guess | None = None,
) -> Inverted:
    """Find latents for pictures.

    Args:
        pictures: uint8 [N, 3, R, R].
        maps: of a network that sees as people do; the perceptual distance is taken in them.
        checkpoints: where finished pictures are kept, so that a killed inversion goes on behind them.
        guess: an encoder's, a start beside the random ones.

    Raises:
        UserError: the loss is not finite.
    """
    inversion = _Inversion(generator, config, maps, guess)
    task = f"{config} {hashlib.sha256(pictures.numpy().tobytes()).hexdigest()}"
    state: dict[str, Any] = {"task": task, "done": 0, "seconds": 0.0, "found": {}}
    if checkpoints and (saved := checkpoints.newest()) and saved["task"] == task:
        state = saved
    step = max(1, samples_at_once(generator) // 4)  # gradients need room beside the features
    batches = chunks(generator, range(state["done"], len(pictures)), step)
    parts = (pictures[numbers].to(generator.w_mean.device) for numbers in batches)
    bar = tqdm(total=len(pictures), initial=state["done"], desc="invert", unit="img")
    room = 32 * step * floats_of_features(generator)
    begun = monotonic()
    with side_by_side(generator.w_mean.device, room) as (workers, count):
        for part in ahead(workers, inversion, parts, count):
            found = state["found"]
            joined = {k: torch.cat([found[k], v]) if found else v for k, v in part.items()}
            state |= {"found": joined, "done": len(joined["w"])}
            state["seconds"] += monotonic() - begun
            begun = monotonic()
            if checkpoints:
                checkpoints.save(state["done"], state)
            bar.update(len(part["w"]))
            bar.set_postfix(psnr=f"{joined['psnr'].mean():.1f} dB")
    bar.close()
    found = state["found"]
    noise = [found[f"noise{i}"] for i in range(len(generator.noise_shapes))]
    samples = Samples(found["w"], noise, pictures)
    return Inverted(samples, found["drawn"], found["psnr"], state["seconds"] / len(pictures))


class _Inversion:
    """What all pictures have in common."""

    def __init__(
        self,
        generator: Generator,
        config: InversionConfig,
        maps: Maps | None,
        guess: Guess | None,
    ) -> None:
        self.generator, self.config, self.maps, self.guess = generator, config, maps, guess
        seed_everything(config.seed)
        self.noise = generator.constant_noise()
        with torch.no_grad():
            shape = (config.random_starts, generator.config.latent_size)
            z = torch.randn(shape).to(generator.w_mean.device)
            random = generator.truncate(generator.mapping(z), 0.7)
            self.starts = torch.cat([generator.w_mean[None], random])
            some = chunks(generator, range(len(self.starts)))
            self.candidates = torch.cat([_coarse(self._draw(self.starts[n])) for n in some])

    def _draw(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Images [B, 3, R, R] in [-1, 1] of styles [B, D] or [B, L, D]."""
        if w.ndim == 2:
            w = w.unsqueeze(1)
        w = w.expand(-1, self.generator.style_count, -1)
        return self.generator.synthesis(w, noise or self.noise)[0]

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Invert a batch of pictures; all of the result is on the CPU, picture by picture."""
        config, generator = self.config, self.generator
        target = pictures.float() / 127.5 - 1
        with torch.no_grad():
            truth = self._seen(target)
            w = self._start(pictures, target, truth)
        w.requires_grad_(True)
        moved = bool(config.noise_learning_rate)
        noise = [n.repeat(len(pictures), 1, 1, 1).requires_grad_(moved) for n in self.noise]
        groups = [{"params": [w], "peak": config.learning_rate}]
        groups += [{"params": noise, "peak": config.noise_learning_rate}] if moved else []
        optimiser = torch.optim.Adam(groups)

        schedule = _Schedule(config)
        while (share := schedule.share()) is not None:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * share
            image = self._draw(w, noise)
            far = self._distance(image, target, truth)
            loss = (far + config.mean_weight * (w - generator.w_mean).square().mean((1, 2))).sum()
            if moved:
                loss = loss + config.noise_regularisation * sum(
                    _self_likeness(n).sum() for n in noise
                )
            if not torch.isfinite(loss):
                raise UserError(
                    f"the inversion's loss is {loss.item()} at step {schedule.step}; lower inversion.learning_rate. "
                    "Pictures that are finished are kept."
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if moved:
                _normalise(noise)
            schedule.saw(far.detach())

        with torch.no_grad():
            image = self._draw(w, noise).clamp(-1, 1)
        result = {
            "w": w.detach().expand(-1, generator.style_count, -1),
            "drawn": ((image + 1) * 127.5).round().to(torch.uint8),
            "psnr": psnr(image, pictures),
            **{f"noise{i}": n.detach() for i, n in enumerate(noise)},
        }
        return {key: value.cpu() for key, value in result.items()}

    def _start(self, pictures: Tensor, target: Tensor, truth: Sequence[Tensor]) -> Tensor:
        """Styles [B, L or 1, D] of the nearest random face, or as guessed where that is nearer."""
        nearest = torch.cdist(_coarse(target), self.candidates).argmin(1)
        layers = self.generator.style_count if self.config.space == "w+" else 1
        start = self.starts[nearest].unsqueeze(1).repeat(1, layers, 1)
        if self.guess is None:
            return start
        guessed = self.guess(pictures).unsqueeze(1).expand_as(start)
        far = [self._distance(self._draw(w), target, truth) for w in (start, guessed)]
        return torch.where((far[1] < far[0])[:, None, None], guessed, start)

    def _seen(self, images: Tensor) -> list[Tensor]:
        """Feature maps whose every pixel has unit length."""
        if self.maps is None or not self.config.perceptual_weight:
            return []
        return [F.normalize(m.float(), dim=1) for m in self.maps((images + 1) * 127.5)]

    def _distance(self, image: Tensor, target: Tensor, truth: Sequence[Tensor]) -> Tensor:
        """Mean absolute difference at all sizes and the perceptual distance, [B].

        The latter is that of Zhang et al., "The Unreasonable Effectiveness of Deep Features" (2018), with
        equal weights for all channels.
        """
        far = at_all_sizes(image, target)
        for mine, true in zip(self._seen(image) if truth else (), truth, strict=True):
            far = far + self.config.perceptual_weight * (mine - true).square().sum(1).mean((1, 2))
        return far


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


def at_all_sizes(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pictures [B, 3, R, R], added up over their sizes, [B]."""
    far = torch.zeros(len(image), device=image.device)
    for size in _SIZES:
        difference = F.avg_pool2d(image, size) - F.avg_pool2d(target, size)
        far = far + difference.abs().mean((1, 2, 3))
    return far


def psnr(image: Tensor, pictures: Tensor) -> Tensor:
    """Of images [B, 3, R, R], nominally in [-1, 1], beside uint8 pictures; in dB, [B]."""
    target = pictures.float() / 127.5 - 1
    error = (image.clamp(-1, 1) - target).square().mean((1, 2, 3)) / 4  # as on [0, 1]
    return -10 * error.clamp_min(1e-10).log10()


def _coarse(images: Tensor) -> Tensor:
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
