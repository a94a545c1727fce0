"""Stage `student`: train a network from images to masks, on one process or several, under accelerate.

Sample order and augmentation are pure functions of (seed, step): an interrupted run goes on exactly where
it was, and the number of processes does not change what is trained on.
"""

import shutil
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
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
from datasets.palette import Palette
from datasets.pseudo_labels import PseudoLabels
from datasets.sheets import batch_size_for
from datasets.transforms import Augmented, Exact, Sample
from student.annotated import with_annotated
from student.base import Build, NetworkConfig, for_images_of
from student.data import InMemory, OpenOnline, batches, split_validation
from student.learner import StudentLearner
from student.network import ARCHITECTURE, WEIGHTS, build_student, student_json
from student.own_answer import Unlabelled, open_unlabelled, tell_of_photographs
from student.progress import Progress
from student.recipe import StudentAgain, StudentStage, StudentTraining, mixed_precision
from student.rounds import judge, start_weights, warn_of_shrunk

LAST = "last.safetensors"


def fit_student(
    config: StudentTraining, folder: StageFolder, open_online: OpenOnline | None = None
) -> Result:
    """Run the stage: writes `student.safetensors`, `last.safetensors` and `student.json`.

    Reads the inputs `labels` and, for that source, `pseudo_labels`; `photographs` and `annotations`, with
    their `generator`, where the recipe asks for them.

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
    part, kept = split_validation(source, recipe.val_images)
    training = with_annotated(part, recipe.annotated_share, labels, folder)
    validation = InMemory(kept) if recipe.source == "online" else kept
    unlabelled = open_unlabelled(
        recipe, validation[0], labels.ignore_index, folder.inputs.get("photographs"),
        folder.checkpoints / "photographs.bytes", config.kept_back,
        partial(tell_of_photographs, folder.path, part),
    )  # fmt: skip
    if isinstance(config, StudentAgain):
        return _go_on(config, labels, training, validation, unlabelled, folder)
    return train_network(recipe, labels, training, validation, folder, unlabelled=unlabelled)


def _go_on(
    config: StudentAgain,
    labels: LabelSet,
    training: Dataset[Any],
    validation: Dataset[Any],
    unlabelled: Unlabelled | None,
    folder: StageFolder,
) -> Result:
    """A later round: train on from the student before, and keep that one if what comes out is worse."""
    path = folder.inputs["student_before"]
    start = None
    if config.from_weights:
        side = int(validation[0].image.shape[-1])
        start = start_weights(path, config.recipe, len(labels), side)
    result = train_network(
        config.recipe, labels, training, validation, folder, start=start, unlabelled=unlabelled
    )
    verdict: dict[str, Any] = {}
    if PartialState().is_main_process:
        verdict = judge(folder, labels, validation)
        if not verdict["taken"]:
            for name in (WEIGHTS, ARCHITECTURE):
                shutil.copyfile(path / name, folder.path / name)
    PartialState().wait_for_everyone()
    return Result(result.files, {**result.figures, "round": verdict})


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
    start: Mapping[str, Tensor] | None = None,
    unlabelled: Unlabelled | None = None,
) -> Result:
    """Train a student on one set and pick the best weights by another.

    Args:
        training, validation: data sets of `Labelled` items.
        build: makes the network that is trained; it keeps its `config`.
        start: weights to begin with; none for new ones.
        unlabelled: images without masks to learn from as well.

    Returns:
        Validation figures of the best weights, and what was written: `student.safetensors` (these),
        `student.json`, `last.safetensors`.
    """
    resolution = int(validation[0].image.shape[-1])
    learner = _open_learner(recipe, labels, folder, build, resolution, start)
    accelerator = learner.accelerator

    # Resume an interrupted run.
    checkpoints, first, best = Checkpoints(folder.checkpoints), 0, Best()
    if state := checkpoints.newest():
        first, best = state["step"], Best(state["best"], state["best_weights"])
        learner.load(state)
        accelerator.print(f"{folder.stage}: resumed at step {first}")

    progress = Progress(recipe, folder, accelerator, first)
    stream = _training_batches(recipe, training, unlabelled, labels, accelerator, first)
    for step, (batch, other) in enumerate(stream, first):
        loss, norm = learner.step(step, batch, other)
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
        if recipe.own_answer.is_asked:
            warn_of_shrunk(best.figures["shares"], "the pseudo-labels")
    accelerator.wait_for_everyone()
    return Result([WEIGHTS, ARCHITECTURE, LAST], best.figures)


def _open_learner(
    recipe: StudentStage,
    labels: LabelSet,
    folder: StageFolder,
    build: Build,
    resolution: int,
    start: Mapping[str, Tensor] | None,
) -> StudentLearner:
    """A new student under accelerate, in the precision of the recipe or, for `auto`, of the machine."""
    if recipe.precision == "auto":
        precision = folder.decided("student.precision", lambda: mixed_precision(recipe))
    else:
        precision = mixed_precision(recipe)
    accelerator = Accelerator(mixed_precision=precision)
    learner = StudentLearner(recipe, labels, accelerator, for_images_of(resolution, build))
    learner.check(resolution)
    if start is not None:
        learner.begin_with(start)
    return learner


def _training_batches(
    recipe: StudentStage,
    training: Dataset[Any],
    unlabelled: Unlabelled | None,
    labels: LabelSet,
    accelerator: Accelerator,
    first: int,
) -> Iterator[tuple[Sample, Sample | None]]:
    """This process's share of every batch from step `first` on, and of images without masks beside it."""
    share, own = partial(_augmented_batches, recipe, labels, accelerator), recipe.own_answer
    workers = 0 if recipe.source == "online" else recipe.workers
    palette = Palette(unlabelled.images, own.colours) if unlabelled and own.colours else None
    labelled = share(training, recipe.batch_size, first, workers, palette)
    if unlabelled is None:
        return zip(labelled, repeat(None), strict=False)
    begin = max(first, min(own.after, recipe.steps))
    others = share(unlabelled, own.unlabelled_batch, begin, recipe.workers)
    return zip(labelled, chain(repeat(None, begin - first), others), strict=True)


def _augmented_batches(
    recipe: StudentStage,
    labels: LabelSet,
    accelerator: Accelerator,
    data: Dataset[Any],
    batch_size: int,
    first: int,
    workers: int,
    palette: Palette | None = None,
) -> Iterator[Sample]:
    """This process's share of the augmented batches of a data set of `Labelled` items."""
    assert isinstance(data, Sized)
    augmented = Augmented(
        data,
        recipe.augmentation,
        labels.ignore_index,
        recipe.seed,
        recipe.own_answer.is_asked,
        palette,
    )
    order = EndlessBatches(
        len(data), batch_size, first, recipe.steps, recipe.seed,
        accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip
    return batches(augmented, order, workers)


def _class_shares(matrix: Tensor, labels: LabelSet) -> dict[str, list[float]]:
    """Of each class by name its share of the pixels, in the labels and in the predictions."""
    pixels = matrix.sum().clamp_min(1)
    pairs = torch.stack([matrix.sum(1), matrix.sum(0)], 1) / pixels
    return dict(zip(labels.names, pairs.tolist(), strict=True))


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
    return iou_figures(matrix, labels.names) | {"shares": _class_shares(matrix, labels)}, matrix
