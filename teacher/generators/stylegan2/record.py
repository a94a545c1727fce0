"""What is known of a generator's training while it runs: metrics, samples, Fréchet distances, warnings.

The average of lowest distance is kept: a long training on few photographs ends worse than it was.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from common.frechet import Embed
from common.stage_folder import StageFolder
from datasets.sheets import save_sheet
from teacher.generators.sampling import draw_sheet
from teacher.generators.stylegan2.adversaries import Losses
from teacher.generators.stylegan2.network import Generator
from teacher.generators.stylegan2.options import GeneratorStage
from teacher.generators.stylegan2.real_images import FrechetMeter, RealImages

SAMPLES = "samples.png"
GROWTH = "growth.png"
_IN_A_ROW = 8  # samples that are followed
_PATIENCE = 5  # lines of metrics in a row that are no chance
_TIMED = 10  # steps after the first one, by which the time is estimated
_FLAT, _BY_HEART = 0.05, 0.9


@dataclass
class Best:
    """The average of lowest Fréchet distance.

    Attributes:
        distance: its distance.
        images: real images that the training had seen.
        weights: its state.
    """

    distance: float
    images: int
    weights: Mapping[str, Tensor]


class Warnings:
    """Says when the discriminator has stopped to teach the generator anything, once for each reason.

    Args:
        ada: whether images are augmented.
        few: whether the real images can be learned by heart.
    """

    def __init__(self, ada: bool, few: bool) -> None:
        self.ada, self.few = ada, few
        self.lines: dict[str, int] = {}  # by reason, lines of metrics in a row for which it holds

    def take_in(self, seen: int, means: Mapping[str, float]) -> Iterator[str]:
        """Look at a line of metrics."""
        apart = abs(means["score/real"] - means["score/fake"])
        if self._holds("flat", apart < _FLAT):
            yield (
                f"warning: at image {seen} the discriminator scores real and generated images alike: the "
                "generator learns nothing from it. Raise generator.discriminator_learning_rate, or begin "
                "with a generator.start that has a discriminator."
            )
        known = self.few and means["score/sign"] > _BY_HEART
        if self._holds("by heart", known):
            remedy = (
                "take more photographs, or the result of fewer generator.images"
                if self.ada
                else "set generator.ada to true"
            )
            yield (
                f"warning: at image {seen} the discriminator knows nearly all real images: it has learnt "
                f"them by heart; {remedy}."
            )

    def _holds(self, reason: str, now: bool) -> bool:
        """Whether a reason has just held long enough."""
        self.lines[reason] = self.lines.get(reason, 0) + 1 if now else 0
        return self.lines[reason] == _PATIENCE


class Record:
    """What is written while the training runs: progress bar, metrics, samples, Fréchet distances.

    Args:
        images: the real images that the Fréchet distance is measured to.
        first: the step at which the training begins or continues.

    Attributes:
        best: the average of lowest distance; none where it is not measured.
    """

    def __init__(
        self,
        config: GeneratorStage,
        folder: StageFolder,
        images: RealImages,
        load_embedding: Callable[[str, torch.device], Embed],
        first: int,
    ) -> None:
        self.config, self.folder, process = config, folder, PartialState()
        self.main, self.device, self.first = process.is_main_process, process.device, first
        self.meter: FrechetMeter | None = None
        self.best: Best | None = None
        if config.frechet_network and self.main:
            embed = load_embedding(config.frechet_network, self.device)
            self.meter = FrechetMeter(embed, images, config.frechet_images)
        size, steps = config.batch_size, config.images // config.batch_size
        self.bar = tqdm(
            total=steps * size, initial=first * size, unit="img", desc="generator", disable=not self.main
        )  # fmt: skip
        self.warnings = Warnings(config.ada, "photographs" in folder.inputs)
        self.sums: dict[str, Tensor] = {}  # by name, the sum and the number of the values
        self.mark, self.since = first * size, time.monotonic()  # of the last line of metrics
        self.begun = self.since

    def crosses(self, every: int, step: int) -> bool:
        """Whether this step's batch passed a multiple of `every` images."""
        seen = (step + 1) * self.config.batch_size
        return seen // every != (seen - self.config.batch_size) // every

    def take_in(self, losses: Losses, step: int, last: bool, average: Generator) -> None:
        """Add the losses of a step; write metrics and measure where it is time."""
        config, seen = self.config, (step + 1) * self.config.batch_size
        for name, value in losses.items():
            self.sums.setdefault(name, torch.zeros(2, device=self.device))
            self.sums[name] += torch.stack(
                [value.detach().float(), torch.ones_like(value.detach())]
            )
        self.bar.update(config.batch_size)
        if step == self.first:  # the first step is slower than all others
            self.begun = time.monotonic()
        elif step == self.first + _TIMED and self.main:
            self._tell_time()
        if last or self.crosses(config.log_every, step) or self.crosses(config.save_every, step):
            self._write_metrics(seen, step)
        if self.meter and (last or self.crosses(config.frechet_every, step)):
            distance = self.meter(average)
            self.folder.log(seen, {"frechet": distance})
            self.bar.write(f"Fréchet distance after {seen} images: {distance:.3f}")
            if self.best is None or distance < self.best.distance:
                weights = {k: t.cpu().clone() for k, t in average.state_dict().items()}
                self.best = Best(distance, seen, weights)
            self._draw_row(average, seen)

    def _tell_time(self) -> None:
        """Say how long it will take, by the first steps; measuring and drawing come on top."""
        size = self.config.batch_size
        left = self.config.images // size - self.first - _TIMED - 1  # steps
        minutes = (time.monotonic() - self.begun) / _TIMED * left / 60
        told = f"about {minutes:.0f} min" if minutes > 1 else "less than a minute"
        self.bar.write(f"generator: {left * size} images to go, {told} on this machine")

    def _draw_row(self, average: Generator, seen: int) -> None:
        """Draw the samples that are followed, and all rows so far beneath each other."""
        rows = self.folder.checkpoints / "rows"
        rows.mkdir(parents=True, exist_ok=True)
        row = draw_sheet(average, self.config.seed, _IN_A_ROW, columns=_IN_A_ROW)
        save_sheet(row, rows / f"{seen:012}.png")
        drawn = [np.asarray(Image.open(path)) for path in sorted(rows.glob("*.png"))]
        save_sheet(np.concatenate(drawn), self.folder.path / GROWTH)

    def draw_samples(self, average: Generator, step: int) -> None:
        """Draw what the average is able to draw by now."""
        sheet = draw_sheet(average, seed=self.config.seed, count=64)
        save_sheet(sheet, self.folder.path / SAMPLES)
        seen = (step + 1) * self.config.batch_size
        self.folder.tensorboard.add_image("samples", sheet, seen, dataformats="HWC")

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from."""
        return {} if self.best is None else {"best": vars(self.best)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        if "best" in state:
            self.best = Best(**state["best"])

    def _write_metrics(self, seen: int, step: int) -> None:
        """Means since the last line.

        Raises:
            UserError: one of them is not finite.
        """
        means = {name: (total / count).item() for name, (total, count) in self.sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at step {step}; lower generator.learning_rate or raise "
                    f"generator.r1_gamma. The last checkpoint in {self.folder.checkpoints} is intact."
                )
        if self.main:
            speed = (seen - self.mark) / (time.monotonic() - self.since)
            self.folder.log(seen, {**means, "images_per_second": speed})
            for warning in self.warnings.take_in(seen, means):
                self.bar.write(warning)
            self.bar.set_postfix({n.split("/")[1]: f"{v:.2f}" for n, v in means.items()})
        self.sums, self.mark, self.since = {}, seen, time.monotonic()
