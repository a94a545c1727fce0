"""Stage `student`: train the image-input network on pseudo-labels, under accelerate.

Sample order and augmentation are pure functions of (seed, step), so that an interrupted run goes on
exactly where it was and the number of processes does not change what is seen.
"""

import time
from collections.abc import Sized
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoints import Checkpoints, save_weights
from common.confusion import confusion_matrix, iou_figures
from common.errors import UserError
from common.files import write_json
from common.stage_folder import Result, StageFolder
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.sheets import at_once, show_confusion, show_predictions
from datasets.transforms import Augmented, Exact
from student.data import InMemory, Part, batches
from student.learner import Learner
from student.network import ARCHITECTURE, WEIGHTS, Build, NetworkConfig, Student, describe
from student.recipe import StudentStage, learning_rate, mixed_precision

LAST = "last.safetensors"


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
    if config.val_images >= len(source):
        raise UserError(
            f"student.val_images is {config.val_images}; it must be below the {len(source)} pictures of the "
            "source."
        )
    border = len(source) - config.val_images
    training, held_back = Part(source, range(border)), Part(source, range(border, len(source)))
    validation = InMemory(held_back) if online else held_back
    return train_network(config, labels, training, validation, folder)


def train_network(
    config: StudentStage,
    labels: LabelSet,
    training: Dataset[Any],
    validation: Dataset[Any],
    folder: StageFolder,
    build: Build = Student,
) -> Result:
    """Train a student on one set and pick the best weights by another; so does every stage like it.

    Args:
        training, validation: data sets of `Labelled` items.
        build: makes the network that is trained; it keeps its `config`.

    Returns:
        Validation figures of the best weights, and what was written: `student.safetensors` (these),
        `student.json`, `last.safetensors`.
    """
    assert isinstance(training, Sized) and isinstance(validation, Sized)
    accelerator = Accelerator(mixed_precision=mixed_precision(config))
    learner = Learner(config, labels, accelerator, build)

    # Take up an interrupted run.
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    best: dict[str, Any] = {"miou": -1.0}
    best_weights: dict[str, Tensor] = {}
    if state := checkpoints.newest():
        first, best, best_weights = state["step"], state["best"], state["best_weights"]
        learner.load(state)
        accelerator.print(f"{folder.stage}: resumed at step {first}")

    augmented = Augmented(training, config.augmentation, labels.ignore_index, config.seed)
    order = EndlessBatches(
        len(training), config.batch_size, first, config.steps, config.seed,
        accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip
    workers = 0 if config.source == "online" else config.workers

    bar = tqdm(
        total=config.steps * config.batch_size, initial=first * config.batch_size, desc=folder.stage, unit="img",
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    shown: dict[str, str] = {}
    started, sum_loss = time.monotonic(), torch.zeros((), device=accelerator.device)
    for step, batch in enumerate(batches(augmented, order, workers), first):
        loss, norm = learner.step(step, batch)
        sum_loss += loss
        done = step + 1
        shown["step"] = f"{done}/{config.steps}"
        bar.set_postfix(shown, refresh=False)
        bar.update(config.batch_size)
        if done % config.val_every and done != config.steps:
            continue

        # Validate the average, keep the best, save.
        figures, matrix = validate(accelerator, learner.average, validation, labels)
        if figures["miou"] >= best["miou"]:
            best = {"step": done, **figures}
            state_dict = learner.average.state_dict()
            best_weights = {key: value.cpu().clone() for key, value in state_dict.items()}
        if accelerator.is_main_process:
            count = min(done - first, (done - 1) % config.val_every + 1)
            metrics = {
                "loss": float(sum_loss) / count,
                "rate": learning_rate(config, step),
                "gradient_norm": float(norm),
                "images_per_second": count * config.batch_size / (time.monotonic() - started),
                "validation/miou": figures["miou"],
                **{f"validation/iou/{k}": v for k, v in figures["iou"].items()},
            }
            folder.log(done, metrics)
            shown |= {"loss": f"{metrics['loss']:.3f}", "miou": f"{figures['miou']:.3f}"}
            bar.set_postfix(shown)
            for title, picture in (
                ("held back", show_predictions(learner.average, validation, labels)),
                ("confusion", show_confusion(matrix, labels)),
            ):
                folder.tensorboard.add_image(title, picture, done, dataformats="HWC")
            progress = {"step": done, "best": best, "best_weights": best_weights}
            checkpoints.save(done, progress | learner.state())
        accelerator.wait_for_everyone()
        started = time.monotonic()
        sum_loss.zero_()
    bar.close()

    if accelerator.is_main_process:
        save_weights(folder.path / WEIGHTS, best_weights)
        save_weights(folder.path / LAST, learner.average.state_dict())
        resolution = int(validation[0].image.shape[-1])
        write_json(
            folder.path / ARCHITECTURE,
            describe(cast(NetworkConfig, learner.network.config), labels.names, resolution),
        )
    accelerator.wait_for_everyone()
    return Result([WEIGHTS, ARCHITECTURE, LAST], best)


@torch.no_grad()
def validate(
    accelerator: Accelerator, network: nn.Module, data: Dataset[Any], labels: LabelSet
) -> tuple[dict[str, Any], Tensor]:
    """IoU figures and confusion matrix of a data set, every picture counted once whatever the ranks."""
    assert isinstance(data, Sized)
    network.eval()
    matrix = torch.zeros(len(labels), len(labels), dtype=torch.int64, device=accelerator.device)
    step = at_once(data[0].mask)
    chunks = [range(s, min(s + step, len(data))) for s in range(0, len(data), step)]
    for chunk in chunks[accelerator.process_index :: accelerator.num_processes]:
        items = [data[i] for i in chunk]
        images = torch.stack([item.image for item in items]).to(accelerator.device)
        truth = torch.stack([item.mask for item in items]).to(accelerator.device)
        matrix += confusion_matrix(truth, network(images).argmax(1), len(labels))
    matrix = accelerator.reduce(matrix, "sum")
    return iou_figures(matrix, labels.names), matrix
