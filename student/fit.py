"""Stage `student`: train the image-input network on pseudo-labels, under accelerate.

Sample order and augmentation are pure functions of (seed, step), so that an interrupted run goes on
exactly where it was and the number of processes does not change what is seen.
"""

import math
import time
from collections.abc import Sized
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from datasets import Dataset
from datasets.artifacts import Result, StageFolder, UserError, atomic_write, write_json
from datasets.batches import EndlessBatches
from datasets.confusion import confusion_matrix, iou_figures
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.losses import cross_entropy, dice
from datasets.pictures import show_predictions
from datasets.pseudo_labels import PseudoLabels, soft_labels
from datasets.state import Checkpoints, seed_everything
from datasets.transforms import Augmentation, Augmented, Exact, Sample
from student.data import InMemory, Part, batches
from student.network import ARCHITECTURE, WEIGHTS, NetworkConfig, Student, describe
from student.parallel import share_batch_norm, total

LAST = "last.safetensors"
_VALIDATION_CHUNK = 50


@dataclass(frozen=True)
class StudentStage:
    """Stage `student`.

    Args:
        network: the architecture.
        source: what to train on: the pseudo-labels of the run; the same samples made while the student
            trains, without a disk; or rendered faces with exact masks.
        faces: number of rendered faces, where they are the source.
        resolution: of the rendered faces, where they are the source.
        steps: optimiser steps.
        batch: pictures per step over all processes.
        targets: learn the most probable class of every pixel, or the probabilities of all that are
            stored (label.top_k).
        rate: AdamW's peak learning rate, after a linear warm-up and before a cosine to zero.
        confidence: power of the teacher's confidence that weights each pixel; 0 weighs all alike.
        dice: weight of the Dice loss beside cross-entropy.
        ema: decay of the moving average of the weights, which is what is evaluated and kept.
        held_back: pictures of the source kept from training, for validation.
        evaluate_every: steps between validations, each with a checkpoint.
        accumulate: parts that a process takes its share of a batch in, one after the other, to need less
            memory; their gradients make one step.
        precision: of the convolutions under accelerate.
        compile: let torch.compile make the network faster; it needs a C++ compiler.
        workers: processes that load and augment; with none, and for samples made online, a thread.
    """

    network: NetworkConfig = NetworkConfig()
    augmentation: Augmentation = Augmentation()
    source: Literal["pseudo_labels", "online", "faces"] = "pseudo_labels"
    targets: Literal["hard", "soft"] = "hard"
    faces: int = 50_000
    resolution: int = 64
    steps: int = 1500
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    clip: float = 1.0
    confidence: float = 1.0
    dice: float = 0.5
    ema: float = 0.995
    held_back: int = 200
    evaluate_every: int = 250
    accumulate: int = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    workers: int = 1
    seed: int = 0


def fit_student(
    config: StudentStage, folder: StageFolder, online: Dataset[Any] | None = None
) -> Result:
    """Run the stage: writes `student.safetensors` and `student.json`.

    Reads the inputs `labels` and, for that source, `pseudo_labels`.

    Args:
        online: a data set that makes its samples when asked, for that source; it has `top_k` too.
    """
    labels = LabelSet.load(folder.inputs["labels"])
    source: Any
    if config.source == "faces":
        faces = RenderedFaces(config.seed, config.faces, config.resolution, labels=labels)
        source = Exact(faces)
    else:
        source = online or PseudoLabels(folder.inputs["pseudo_labels"])
    if config.targets == "soft" and getattr(source, "top_k", 1) == 1:
        raise UserError(
            "student.targets is soft, but there are hard labels only: set label.top_k to the number of "
            f"classes, {len(labels)}, or to some of the best ones, and run `label` again."
        )
    if not 0 < config.held_back < len(source):
        raise UserError(
            f"student.held_back is {config.held_back}; it must be above 0 and below the "
            f"{len(source)} pictures of the source."
        )
    border = len(source) - config.held_back
    training, held_back = Part(source, range(border)), Part(source, range(border, len(source)))
    validation = InMemory(held_back) if online else held_back
    figures = train_network(config, labels, training, validation, folder)
    return Result([WEIGHTS, ARCHITECTURE, LAST], figures)


def learning_rate(config: StudentStage, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(config.warm_up, 1))
    return config.rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def train_network(
    config: StudentStage,
    labels: LabelSet,
    training: Dataset[Any],
    validation: Dataset[Any],
    folder: StageFolder,
    subfolder: str = "",
) -> dict[str, Any]:
    """Train a student on one set and pick the best weights by another; used by every student-like row.

    Args:
        training, validation: data sets of `Labelled` items.
        subfolder: where in the stage's folder the weights go.

    Returns:
        Validation figures of the best weights. Writes `student.safetensors` (best), `student.json`,
        `last.safetensors`.
    """
    accelerator = Accelerator(mixed_precision=config.precision)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if config.batch % (ranks * config.accumulate):
        raise UserError(
            f"student.batch is {config.batch}, not divisible by {ranks} processes x "
            f"{config.accumulate} parts (student.accumulate); it is the batch of the whole run."
        )
    out = folder.path / subfolder
    assert isinstance(training, Sized) and isinstance(validation, Sized)

    # Model, optimiser, average. Ranks start alike, since they draw from the same seed.
    seed_everything(config.seed)
    network = Student(config.network, len(labels)).to(memory_format=torch.channels_last)
    average = ModelEmaV3(network, decay=config.ema, use_warmup=True).to(accelerator.device)
    share_batch_norm(network, accelerator.device)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, config.rate)
    wrapped, optimiser = accelerator.prepare(network, optimiser)
    model: Any = torch.compile(wrapped) if config.compile else wrapped

    # Take up an interrupted run.
    checkpoints, first = Checkpoints(folder.checkpoints / subfolder), 0
    best: dict[str, Any] = {"miou": -1.0}
    best_weights: dict[str, Tensor] = {}
    if state := checkpoints.newest():
        first, best, best_weights = state["step"], state["best"], state["best_weights"]
        network.load_state_dict(state["network"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(state["scaler"])
        accelerator.print(f"student: resumed at step {first}")

    augmented = Augmented(training, config.augmentation, labels.ignore_index, config.seed)
    order = EndlessBatches(
        len(training), config.batch, first, config.steps, config.seed, rank, ranks
    )
    workers = 0 if config.source == "online" else config.workers

    name = subfolder or "student"
    bar = tqdm(
        total=config.steps, initial=first, desc=name, unit="step",
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    started, sum_loss = time.monotonic(), torch.zeros((), device=accelerator.device)
    for step, batch in enumerate(batches(augmented, order, workers), first):
        seed_everything(config.seed, step, rank)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        model.train()
        columns = (column.chunk(config.accumulate) for column in batch)
        parts = [Sample(*part) for part in zip(*columns, strict=True)]
        for part in parts:
            with nullcontext() if part is parts[-1] else accelerator.no_sync(wrapped):
                loss = _loss(config, accelerator, model, part, labels) / len(parts)
                if not torch.isfinite(loss):
                    raise UserError(
                        f"the student's loss is {float(loss)} at step {step} (samples "
                        f"{part.number.tolist()[:8]}, ...); lower student.rate. The last checkpoint "
                        "is intact."
                    )
                accelerator.backward(loss)
            sum_loss += loss.detach()
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        optimiser.zero_grad()
        average.update(network, step=step)
        bar.update()

        done = step + 1
        if done % config.evaluate_every and done != config.steps:
            continue
        # Validate the average, keep the best, save.
        figures = validate(accelerator, average.module, validation, labels)
        if figures["miou"] >= best["miou"]:
            best = {"step": done, **figures}
            best_weights = _weights(average.module)
        if accelerator.is_main_process:
            count = done - first if done - first < config.evaluate_every else config.evaluate_every
            metrics = {
                "loss": float(sum_loss) / count,
                "rate": learning_rate(config, step),
                "gradient_norm": float(norm),  # type: ignore[arg-type]
                "images_per_second": count * config.batch / (time.monotonic() - started),
                "validation/miou": figures["miou"],
                **{f"validation/iou/{k}": v for k, v in figures["iou"].items()},
            }
            _log(folder, subfolder, done, metrics)
            bar.set_postfix(loss=f"{metrics['loss']:.3f}", miou=f"{figures['miou']:.3f}")
            sheet = show_predictions(average.module, validation, labels, accelerator.device)
            folder.tensorboard.add_image(f"{name}/held back", sheet, done, dataformats="HWC")
            checkpoints.save(
                done,
                {
                    "step": done,
                    "best": best,
                    "best_weights": best_weights,
                    "network": network.state_dict(),
                    "average": average.module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
                },
            )
        accelerator.wait_for_everyone()
        started = time.monotonic()
        sum_loss.zero_()
    bar.close()

    if accelerator.is_main_process:
        _save(out / WEIGHTS, best_weights)
        _save(out / LAST, _weights(average.module))
        resolution = int(validation[0].image.shape[-1])
        write_json(out / ARCHITECTURE, describe(config.network, labels.names, resolution))
    accelerator.wait_for_everyone()
    return best


def _loss(
    config: StudentStage,
    accelerator: Accelerator,
    model: nn.Module,
    batch: Sample,
    labels: LabelSet,
) -> Tensor:
    """Loss of a batch; where several processes hold parts of one, of all of it."""
    images, target, weight, runners_up = (t.to(accelerator.device) for t in batch[:4])
    with accelerator.autocast():
        logits = model(images.to(memory_format=torch.channels_last)).float()
    soft = None
    if config.targets == "soft":
        soft = soft_labels(target, weight, runners_up, len(labels))
    weight = weight**config.confidence
    loss = cross_entropy(logits, target, weight, labels.ignore_index, soft, total)
    if config.dice:
        loss = loss + config.dice * dice(logits, target, weight, labels.ignore_index, total)
    return loss


@torch.no_grad()
def validate(
    accelerator: Accelerator, network: nn.Module, data: Dataset[Any], labels: LabelSet
) -> dict[str, Any]:
    """IoU figures over a data set, every picture counted once whatever the number of ranks."""
    assert isinstance(data, Sized)
    network.eval()
    matrix = torch.zeros(len(labels), len(labels), dtype=torch.int64, device=accelerator.device)
    chunks = [
        range(s, min(s + _VALIDATION_CHUNK, len(data)))
        for s in range(0, len(data), _VALIDATION_CHUNK)
    ]
    for chunk in chunks[accelerator.process_index :: accelerator.num_processes]:
        items = [data[i] for i in chunk]
        images = torch.stack([item.image for item in items]).to(accelerator.device)
        truth = torch.stack([item.mask for item in items]).to(accelerator.device)
        matrix += confusion_matrix(truth, network(images).argmax(1), len(labels))
    return iou_figures(accelerator.reduce(matrix, "sum"), labels.names)


def _log(folder: StageFolder, subfolder: str, step: int, metrics: dict[str, float]) -> None:
    prefix = f"{subfolder}/" if subfolder else ""
    folder.log(step, {prefix + name: value for name, value in metrics.items()})


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone().contiguous() for k, v in network.state_dict().items()}


def _save(path: Path, weights: dict[str, Tensor]) -> None:
    with atomic_write(path) as partial:
        save_file(weights, partial)
