"""The stage `generator`: train a StyleGAN2 on unlabelled images, photographs or rendered faces.

Every step draws its randomness from (seed, step, process), so that an interrupted run continues exactly
where it was. Progress counts images.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from common.checkpoints import Checkpoints, save_weights
from common.errors import UserError
from common.frechet import Embed
from common.processors import native_precision
from common.seeding import seed_everything
from common.stage_folder import Result, StageFolder
from datasets.sheets import save_sheet
from teacher.generators.sampling import draw_sheet
from teacher.generators.stylegan2.adversaries import Adversaries, Losses
from teacher.generators.stylegan2.files import (
    ARCHITECTURE,
    DISCRIMINATOR,
    WEIGHTS,
    save_generator,
)
from teacher.generators.stylegan2.network import Generator, mean_latent
from teacher.generators.stylegan2.options import GeneratorStage
from teacher.generators.stylegan2.real_images import FrechetMeter, RealImages
from teacher.generators.stylegan2.rules import Rates
from teacher.generators.stylegan2.start import Start, network_of_start, read_start

_SHEET = "samples.png"


def train_generator(
    config: GeneratorStage,
    folder: StageFolder,
    load_embedding: Callable[[str, torch.device], Embed],
) -> Result:
    """Run the stage: writes generator and discriminator, the architecture, and `samples.png`.

    Reads the inputs `photographs`, without which it learns from rendered faces, and `start`, without which
    it begins with random weights.

    Args:
        load_embedding: loads the encoder that `frechet_network` names.

    Raises:
        UserError: the batch cannot be divided among the processes, the start cannot be trained on, or a
            loss is not finite.
    """
    process = PartialState()
    rank, ranks = process.process_index, process.num_processes
    _check_batch(config.batch_size, ranks)
    config, start = _settle(config, folder)
    steps = config.images // config.batch_size

    # Networks and optimisers, as they were where a run was interrupted.
    adversaries = Adversaries(config, process.device, start)
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    if state := checkpoints.newest():
        first = state["step"]
        adversaries.load(state)
        process.print(f"generator: resumed at image {first * config.batch_size}")

    # Real images.
    photographs, packed = folder.inputs.get("photographs"), folder.checkpoints / "photographs.bytes"
    images = RealImages(photographs, config.network.resolution, config.seed, packed)
    loader = images.batches(first, steps, config.batch_size, rank, ranks, config.workers)
    flip = config.flip if photographs else None
    record = _Record(config, folder, images, load_embedding, first)

    for step, batch in enumerate(loader, first):
        seed_everything(config.seed, step, rank)
        losses = adversaries.step(_to_floats(batch, process.device, flip), step)
        record.take_in(losses, step, last=step + 1 == steps, average=adversaries.average)
        if process.is_main_process and record.crosses(config.save_every, step):
            checkpoints.save(step + 1, {"step": step + 1, **adversaries.state()})
            sheet = draw_sheet(adversaries.average, seed=config.seed, count=64)
            save_sheet(sheet, folder.path / _SHEET)
            seen = (step + 1) * config.batch_size
            folder.tensorboard.add_image("samples", sheet, seen, dataformats="HWC")
    record.bar.close()

    if process.is_main_process:
        _write(adversaries, folder)
    figures: dict[str, Any] = {
        "images": steps * config.batch_size,
        "rates": asdict(adversaries.rates),
    }
    if start:
        figures["ancestors"] = list(start.ancestors)
    return Result([WEIGHTS, ARCHITECTURE, DISCRIMINATOR, _SHEET], figures)


def _settle(config: GeneratorStage, folder: StageFolder) -> tuple[GeneratorStage, Start | None]:
    """The config without `auto` and with the start's architecture, and the start."""
    device, start = PartialState().device, None
    if config.precision == "auto":
        precision = folder.decided("generator.precision", lambda: native_precision(device))
        config = replace(config, precision="bf16" if precision == "bf16" else "no")
    if path := folder.inputs.get("start"):
        start = read_start(path)
        config = replace(config, network=network_of_start(config.network, start.network, path))
        _tell(start, path)
    if by_rule := Rates.of(config, start is not None).told(config):
        PartialState().print(f"generator: {by_rule}, by rule")
    return config, start


def _write(adversaries: Adversaries, folder: StageFolder) -> None:
    """Write the result: the average, with a mean of w measured on itself, and the discriminator."""
    average, seed = adversaries.average, adversaries.config.seed
    average.w_mean.copy_(mean_latent(average, seed=seed))
    save_generator(average, folder.path)
    weights = adversaries.discriminator.state_dict()
    save_weights(folder.path / DISCRIMINATOR, {name: t.half() for name, t in weights.items()})
    save_sheet(draw_sheet(average, seed=seed, count=64), folder.path / _SHEET)


def _tell(start: Start, path: Path) -> None:
    """Print what the training begins with."""
    beside = "and its discriminator" if start.discriminator else "without a discriminator"
    print_ = PartialState().print
    print_(f"generator: begins with {path}, {start.network.resolution} px, {beside}")
    for note in start.notes:
        print_(f"note: {note}")


def _check_batch(batch_size: int, ranks: int) -> None:
    if batch_size % (4 * ranks):
        raise UserError(
            f"generator.batch_size is {batch_size}: it must be a multiple of four for each of the "
            f"{ranks} processes."
        )


def _to_floats(batch: Tensor, device: torch.device, flip: float | None) -> Tensor:
    """uint8 [B, 3, R, R] -> [-1, 1] on the device.

    Args:
        flip: probability that an image is mirrored; none to draw nothing.
    """
    real = batch.to(device, memory_format=torch.channels_last)
    real = real.float() / 127.5 - 1
    if flip is None:
        return real
    mirrored = torch.rand(len(real), 1, 1, 1, device=device) < flip
    return torch.where(mirrored, real.flip(-1), real)


class _Record:
    """What is written while the training runs: progress bar, metrics, Fréchet distances.

    Args:
        images: the real images that the Fréchet distance is measured to.
        first: the step at which the training begins or continues.
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
        self.main, self.device = process.is_main_process, process.device
        self.meter = None
        if config.frechet_network and self.main:
            embed = load_embedding(config.frechet_network, self.device)
            self.meter = FrechetMeter(embed, images, config.frechet_images)
        size, steps = config.batch_size, config.images // config.batch_size
        self.bar = tqdm(
            total=steps * size, initial=first * size, unit="img", desc="generator", disable=not self.main
        )  # fmt: skip
        self.sums: dict[str, Tensor] = {}  # by name, the sum and the number of the values
        self.mark, self.since = first * size, time.monotonic()  # of the last line of metrics

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
        if last or self.crosses(config.log_every, step) or self.crosses(config.save_every, step):
            self._write_metrics(seen, step)
        if self.meter and (last or self.crosses(config.frechet_every, step)):
            distance = self.meter(average)
            self.folder.log(seen, {"frechet": distance})
            self.bar.write(f"Fréchet distance after {seen} images: {distance:.3f}")

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
            self.bar.set_postfix({n.split("/")[1]: f"{v:.2f}" for n, v in means.items()})
        self.sums, self.mark, self.since = {}, seen, time.monotonic()
