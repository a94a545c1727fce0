"""The stage `generator`: train a StyleGAN2 on unlabelled images, photographs or rendered faces.

Every step draws its randomness from (seed, step, process), so that an interrupted run continues exactly
where it was. Progress counts images.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from common.checkpoints import Checkpoints, save_weights
from common.errors import UserError
from common.frechet import Embed
from common.processors import native_precision
from common.seeding import seed_everything
from common.stage_folder import Result, StageFolder
from datasets.photograph_overview import Overview
from datasets.photographs import Photographs
from datasets.sheets import save_sheet
from teacher.generators.sampling import draw, draw_sheet, latents_of_seed
from teacher.generators.stylegan2.adversaries import Adversaries, rates_of
from teacher.generators.stylegan2.files import (
    ARCHITECTURE,
    DISCRIMINATOR,
    WEIGHTS,
    save_generator,
)
from teacher.generators.stylegan2.network import Generator, mean_latent
from teacher.generators.stylegan2.options import GeneratorStage, GeneratorTraining
from teacher.generators.stylegan2.real_images import RealImages
from teacher.generators.stylegan2.record import GROWTH, SAMPLES, Best, Record
from teacher.generators.stylegan2.rules import Rates
from teacher.generators.stylegan2.start import Start, network_of_start, read_start

LAST = "last.safetensors"
_MEAN_OF = 500  # samples whose mean shows how the start frames its images


def train_generator(
    training: GeneratorTraining,
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
    _check_batch(training.recipe.batch_size, ranks)
    config, start, rates = _settle(training.recipe, folder)
    steps = config.images // config.batch_size

    # Networks and optimisers, as they were where a run was interrupted.
    adversaries = Adversaries(config, process.device, start, rates)
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    if state := checkpoints.newest():
        first = state["step"]
        adversaries.load(state)
        process.print(f"generator: resumed at image {first * config.batch_size}")

    # Real images.
    side, photographs = config.network.resolution, None
    if source := folder.inputs.get("photographs"):
        look = partial(_look, folder=folder, average=adversaries.average if start else None)
        packed = folder.checkpoints / "photographs.bytes"
        photographs = Photographs(source, side, packed, training.kept_back, look)
    images = RealImages(photographs, side, config.seed)
    loader = images.batches(first, steps, config.batch_size, rank, ranks, config.workers)
    flip = config.flip if photographs else None
    record = Record(config, folder, images, load_embedding, first)
    record.load(state or {})

    for step, batch in enumerate(loader, first):
        seed_everything(config.seed, step, rank)
        losses = adversaries.step(_to_floats(batch, process.device, flip), step)
        record.take_in(losses, step, last=step + 1 == steps, average=adversaries.average)
        if process.is_main_process and record.crosses(config.save_every, step):
            kept = {"step": step + 1, **adversaries.state(), **record.state()}
            checkpoints.save(step + 1, kept)
            record.draw_samples(adversaries.average, step)
    record.bar.close()

    files = _write(adversaries, record.best, folder) if process.is_main_process else []
    figures = {"images": steps * config.batch_size, **_figures(adversaries, record.best)}
    return Result(files, figures)


def _settle(
    config: GeneratorStage, folder: StageFolder
) -> tuple[GeneratorStage, Start | None, Rates]:
    """The config with the start's architecture and all images, the start, and the numbers by rule."""
    device, start = PartialState().device, None
    if config.precision == "auto":
        precision = folder.decided("generator.precision", lambda: native_precision(device))
        config = replace(config, precision="bf16" if precision == "bf16" else "no")
    if path := folder.inputs.get("start"):
        start = read_start(path)
        config = replace(config, network=network_of_start(config.network, start.network, path))
        _tell(start, path)
    rates = rates_of(config, start)
    if by_rule := rates.told(config):
        PartialState().print(f"generator: {by_rule}, by rule")
    config = replace(config, images=config.images + rates.wait_images)
    return config, start, rates


def _figures(adversaries: Adversaries, best: Best | None) -> dict[str, Any]:
    """How the training went, for the manifest."""
    figures: dict[str, Any] = {"rates": asdict(adversaries.rates)}
    if start := adversaries.start:
        figures["ancestors"] = list(start.ancestors)
    if best:
        figures |= {"frechet": best.distance, "frechet_images": best.images}
    return figures


def _look(overview: Overview, folder: StageFolder, average: Generator | None) -> None:
    """Say what the photographs are, beside what the generator draws before it has seen them."""
    samples = None
    if average is not None:
        samples = draw(average, latents_of_seed(average, 0, 1.0), range(_MEAN_OF)).images
    overview.tell(folder.path, samples)


def _write(adversaries: Adversaries, best: Best | None, folder: StageFolder) -> list[str]:
    """Write the result: the average, with a mean of w measured on itself, and the discriminator.

    Where a best average is known it is the result, and the last one lies beside it.

    Returns:
        The names of the files.
    """
    average, seed, files = adversaries.average, adversaries.config.seed, [SAMPLES]
    if best:
        halves = {name: t.half() for name, t in average.state_dict().items()}
        save_weights(folder.path / LAST, halves)
        average.load_state_dict(best.weights)
        files += [LAST, GROWTH]
    average.w_mean.copy_(mean_latent(average, seed=seed))
    save_generator(average, folder.path)
    weights = adversaries.discriminator.state_dict()
    save_weights(folder.path / DISCRIMINATOR, {name: t.half() for name, t in weights.items()})
    save_sheet(draw_sheet(average, seed=seed, count=64), folder.path / SAMPLES)
    return [*files, WEIGHTS, ARCHITECTURE, DISCRIMINATOR]


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
