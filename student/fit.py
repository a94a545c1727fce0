"""Stage `student`: train a network from images to masks, on one process or several, under accelerate.

Sample order and augmentation are pure functions of (seed, step): an interrupted run goes on exactly where
it was, and the number of processes does not change what is trained on.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

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
from datasets.sheets import batch_size_for
from datasets.transforms import Augmented, Exact, Sample
from student.base import Build, NetworkConfig, for_images_of
from student.data import InMemory, OpenOnline, batches, split_validation
from student.learner import StudentLearner
from student.network import ARCHITECTURE, WEIGHTS, build_student, student_json
from student.progress import Progress
from student.recipe import StudentStage, StudentTraining, mixed_precision

LAST = "last.safetensors"


def fit_student(
    config: StudentTraining, folder: StageFolder, open_online: OpenOnline | None = None
) -> Result:
    """Run the stage: writes `student.safetensors`, `last.safetensors` and `student.json`.

    Reads the inputs `labels` and, for that source, `pseudo_labels`.

    Args:
        open_online: opens the data set of the source `online` from `config.online` and the folder's inputs.

    Raises:
        UserError: the source has no soft labels, or too few images.
    """
    recipe, labels = config.recipe, LabelSet.load(folder.inputs["labels"])
    source = _open_source(config, labels, folder, open_online)
    if recipe.targets == "soft" and getattr(source, "top_k", 1) == 1:
        raise UserError(
            "student.targets is soft, but there are hard labels only: set label.top_k to the number of "
            f"classes, {len(labels)}, or to some of the best ones, and run `label` again."
        )
    if recipe.val_images >= len(source):
        raise UserError(
            f"student.val_images is {recipe.val_images}; it must be below the {len(source)} images of the "
            "source."
        )
    training, kept = split_validation(source, recipe.val_images)
    validation = InMemory(kept) if recipe.source == "online" else kept
    return train_network(recipe, labels, training, validation, folder)


def _open_source(
    config: StudentTraining, labels: LabelSet, folder: StageFolder, open_online: OpenOnline | None
) -> Any:
    """The data set that the recipe names, of `Labelled` items."""
    recipe = config.recipe
    if recipe.source == "faces":
        return Exact(RenderedFaces(recipe.seed, recipe.faces, recipe.resolution, labels=labels))
    if recipe.source == "online":
        assert open_online is not None
        return open_online(config.online, folder)
    return PseudoLabels(folder.inputs["pseudo_labels"])


@dataclass
class Best:
    """The best weights so far, and their validation figures with the step."""

    figures: dict[str, Any] = field(default_factory=lambda: {"miou": -1.0})
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, figures: dict[str, Any], network: nn.Module) -> None:
        """Keep a network's weights if no earlier ones were better."""
        if figures["miou"] >= self.figures["miou"]:
            self.figures = {"step": step, **figures}
            self.weights = {k: v.cpu().clone() for k, v in network.state_dict().items()}


def train_network(
    recipe: StudentStage,
    labels: LabelSet,
    training: Dataset[Any],
    validation: Dataset[Any],
    folder: StageFolder,
    build: Build = build_student,
) -> Result:
    """Train a student on one set and pick the best weights by another.

    Args:
        training, validation: data sets of `Labelled` items.
        build: makes the network that is trained; it keeps its `config`.

    Returns:
        Validation figures of the best weights, and what was written: `student.safetensors` (these),
        `student.json`, `last.safetensors`.
    """
    if recipe.precision == "auto":
        precision = folder.decided("student.precision", lambda: mixed_precision(recipe))
    else:
        precision = mixed_precision(recipe)
    accelerator = Accelerator(mixed_precision=precision)
    resolution = int(validation[0].image.shape[-1])
    learner = StudentLearner(recipe, labels, accelerator, for_images_of(resolution, build))
    learner.check(resolution)

    # Resume an interrupted run.
    checkpoints, first, best = Checkpoints(folder.checkpoints), 0, Best()
    if state := checkpoints.newest():
        first, best = state["step"], Best(state["best"], state["best_weights"])
        learner.load(state)
        accelerator.print(f"{folder.stage}: resumed at step {first}")

    progress = Progress(recipe, folder, accelerator, first)
    stream = _training_batches(recipe, training, labels, accelerator, first)
    for step, batch in enumerate(stream, first):
        loss, norm = learner.step(step, batch)
        progress.add(step, loss)
        done = step + 1
        if done % recipe.val_every and done != recipe.steps:
            continue

        # Validate the average, keep the best, save.
        figures, matrix = validate(accelerator, learner.average, validation, labels)
        best.offer(done, figures, learner.average)
        if accelerator.is_main_process:
            progress.log(done, learner.optimiser.param_groups[0]["lr"], norm, figures)
            progress.draw(done, learner.average, validation, matrix, labels)
            kept = {"step": done, "best": best.figures, "best_weights": best.weights}
            checkpoints.save(done, kept | learner.state())
        accelerator.wait_for_everyone()
        progress.restart()
    progress.close()

    if accelerator.is_main_process:
        _write_student(folder, learner, best, labels, resolution)
    accelerator.wait_for_everyone()
    return Result([WEIGHTS, ARCHITECTURE, LAST], best.figures)


def _training_batches(
    recipe: StudentStage,
    training: Dataset[Any],
    labels: LabelSet,
    accelerator: Accelerator,
    first: int,
) -> Iterator[Sample]:
    """This process's share of every batch from step `first` on, augmented."""
    assert isinstance(training, Sized)
    augmented = Augmented(training, recipe.augmentation, labels.ignore_index, recipe.seed)
    order = EndlessBatches(
        len(training), recipe.batch_size, first, recipe.steps, recipe.seed,
        accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip
    return batches(augmented, order, 0 if recipe.source == "online" else recipe.workers)


def _write_student(
    folder: StageFolder, learner: StudentLearner, best: Best, labels: LabelSet, resolution: int
) -> None:
    """Write the files of a student that is trained."""
    save_weights(folder.path / WEIGHTS, best.weights)
    save_weights(folder.path / LAST, learner.average.state_dict())
    config = cast(NetworkConfig, learner.network.config)
    write_json(folder.path / ARCHITECTURE, student_json(config, labels.names, resolution))


@torch.no_grad()
def validate(
    accelerator: Accelerator, network: nn.Module, data: Dataset[Any], labels: LabelSet
) -> tuple[dict[str, Any], Tensor]:
    """IoU figures and confusion matrix of a data set; every image counts once, whatever the processes."""
    assert isinstance(data, Sized)
    network.eval()
    matrix = torch.zeros(len(labels), len(labels), dtype=torch.int64, device=accelerator.device)
    step = batch_size_for(data[0].mask)
    chunks = [range(s, min(s + step, len(data))) for s in range(0, len(data), step)]
    for chunk in chunks[accelerator.process_index :: accelerator.num_processes]:
        items = [data[i] for i in chunk]
        images = torch.stack([item.image for item in items]).to(accelerator.device)
        truth = torch.stack([item.mask for item in items]).to(accelerator.device)
        matrix += confusion_matrix(truth, network(images).argmax(1), len(labels))
    matrix = accelerator.reduce(matrix, "sum")
    return iou_figures(matrix, labels.names), matrix
