"""Reference networks: the student's network and recipe, trained on other data.

Each is a stage of its own, with as many steps as the student, and all but the first with its batches:

`labels_alone`: on the annotated samples alone. The student's lead over it is what distillation adds.
`supervised`: on rendered faces with exact masks, an upper bound.
`perfect_teacher`: on the student's own images, labelled by a better annotator than the teacher. Its gap to
`supervised` is what the generator costs, the student's gap to it is what the teacher costs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import TensorDataset
from tqdm import tqdm

from common.errors import UserError
from common.files import read_fields
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets import Dataset
from datasets.annotations import choose_shots, read_all_annotated, read_samples
from datasets.faces import RenderedFaces
from datasets.fetch import fetch
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.sheets import batch_size_for
from datasets.transforms import Exact
from student.data import split_validation
from student.fit import train_network
from student.network import ARCHITECTURE, load_student, predictor
from student.recipe import StudentStage
from teacher.generators.registry import load_generator

_CHUNK = 50  # images
_COPIES, _FEWEST = 2, 8  # of every annotated sample in a batch; images in it


@dataclass(frozen=True)
class LabelsAlone:
    """What the stage `labels_alone` depends on.

    Args:
        recipe: the student's.
        shots: number of annotated samples to learn from, as for the teacher; 0 for all.
        shots_seed: seed of a random choice of these; none for the first ones.
    """

    recipe: StudentStage
    shots: int
    shots_seed: int | None


@dataclass(frozen=True)
class Supervised:
    """What the stage `supervised` depends on.

    Args:
        recipe: the student's.
        faces: number of rendered faces.
        seed: seed of these faces.
    """

    recipe: StudentStage
    faces: int
    seed: int

    def __post_init__(self) -> None:
        if self.faces <= self.recipe.val_images:
            raise UserError(
                f"compare.supervised_images is {self.faces}, and student.val_images keeps "
                f"{self.recipe.val_images} of them from training; raise it to the number of pseudo-labels."
            )


def recipe_of(student: StudentStage) -> StudentStage:
    """A student's recipe, with the defaults for what it says of its own images and labels.

    A step sees as many images as the student's, with those that it learns without masks.
    """
    default = StudentStage()
    return replace(
        student, source="faces", faces=default.faces, resolution=default.resolution,
        targets=default.targets, temperature=default.temperature,
        own_answer=default.own_answer, annotated_share=default.annotated_share,
        batch_size=student.batch_size + student.own_answer.beside,
    )  # fmt: skip


def train_labels_alone(config: LabelsAlone, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels`, `generator` and `annotations`."""
    labels = LabelSet.load(folder.inputs["labels"])
    generator_hash = artifact_hash(folder.inputs["generator"])
    samples, masks = read_all_annotated(folder.inputs, labels, generator_hash)
    chosen = choose_shots(len(samples), config.shots, config.shots_seed)
    annotated = Exact(TensorDataset(samples.images[chosen], masks[chosen]))
    recipe = recipe_for_few(config.recipe, len(chosen), PartialState().num_processes)
    return train_network(recipe, labels, annotated, annotated, folder)


def recipe_for_few(recipe: StudentStage, samples: int, processes: int) -> StudentStage:
    """A recipe with no more images than a few annotated samples need.

    The student's batch would show each of three samples ten times, in different augmentations. It is
    halved as long as it still shows each twice, has eight images, and divides by the processes. With a
    smaller batch two thirds of the steps do (docs/experiments.md, "Shorter trainings").
    """
    batch, together = recipe.batch_size, processes * recipe.grad_accumulation_steps
    while batch % (2 * together) == 0 and batch // 2 >= max(_FEWEST, _COPIES * samples):
        batch //= 2
    steps = recipe.steps if batch == recipe.batch_size else max(1, recipe.steps * 2 // 3)
    return replace(recipe, batch_size=batch, steps=steps)


def train_supervised(config: Supervised, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels` and, for the side of its images alone, `annotations` or
    `generator`."""
    labels = LabelSet.load(folder.inputs["labels"])
    if path := folder.inputs.get("annotations"):
        size = int(read_samples(path)[0].images.shape[-1])
    else:
        size = load_generator(folder.inputs["generator"]).resolution
    faces = RenderedFaces(config.seed, config.faces, size, labels=labels)
    batches = (zip(*fetch(faces, indices), strict=True) for indices in _chunks(faces))
    return _train(config.recipe, labels, (map(torch.stack, batch) for batch in batches), folder)


def train_perfect_teacher(recipe: StudentStage, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels`, `pseudo_labels` and `annotator`."""
    labels = LabelSet.load(folder.inputs["labels"])
    check_annotator(folder.inputs["annotator"], labels)
    predict = predictor(load_student(folder.inputs["annotator"])[0].to(PartialState().device))

    def annotate(images: Tensor) -> Tensor:
        return torch.cat([predict(batch) for batch in images.split(batch_size_for(images))])

    source = PseudoLabels(folder.inputs["pseudo_labels"])
    batches = (torch.stack([source[i].image for i in indices]) for indices in _chunks(source))
    return _train(recipe, labels, ((images, annotate(images)) for images in batches), folder)


def check_annotator(path: Path, labels: LabelSet) -> None:
    """Check that the annotator of `perfect_teacher`, a finished student, has the run's classes.

    Raises:
        UserError: it has others.
    """
    remedy = "copy the student's whole folder again"
    classes = read_fields(path / ARCHITECTURE, {"classes": list}, remedy)["classes"]
    if classes != list(labels.names):
        raise UserError(
            f"sources.annotator {path} was trained for the classes {', '.join(map(str, classes))}; the "
            f"run's label set has {', '.join(labels.names)}: name a student trained for these."
        )


def _chunks(data: Dataset[Any]) -> Iterator[list[int]]:
    """The indices of all items in chunks, with a progress bar."""
    indices = torch.arange(len(data)).split(_CHUNK)  # type: ignore[arg-type]
    bar = tqdm(indices, "reference", unit="chunk", disable=not PartialState().is_main_process)
    return (chunk.tolist() for chunk in bar)


def _train(
    recipe: StudentStage,
    labels: LabelSet,
    batches: Iterable[Iterable[Tensor]],
    folder: StageFolder,
) -> Result:
    """Train on batches of images and masks, without the last ones, which validate."""
    data = Exact(TensorDataset(*(torch.cat(column) for column in zip(*batches, strict=True))))
    training, validation = split_validation(data, recipe.val_images)
    return train_network(recipe, labels, training, validation, folder)
