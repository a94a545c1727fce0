"""Networks like the student, taught otherwise: what its figures are to be held against.

Each is a stage of its own: the student's network, trained by its recipe for as many steps, from another
source.

`labels_alone`: the annotated samples alone; what the distillation adds to them.
`supervised`: rendered faces with exact masks; what there is to reach.
`perfect_teacher`: the student's own pictures, labelled by a better hand than the teacher's. From
`supervised` to here is what the generator costs, from here to the student what the teacher costs.
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
from common.files import read_json
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets import Dataset
from datasets.annotations import pick, read_samples, read_unlabelled
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.transforms import Exact
from evaluation.scoring import segment
from student.data import Part
from student.fit import train_network
from student.network import ARCHITECTURE, load_student, predictor
from student.recipe import StudentStage

REFERENCES = ("labels_alone", "supervised", "perfect_teacher")
_CHUNK = 50


@dataclass(frozen=True)
class LabelsAlone:
    """What the stage `labels_alone` depends on.

    Args:
        recipe: the student's.
        shots, draw: which of the annotated samples, as for the teacher.
    """

    recipe: StudentStage
    shots: int
    shots_seed: int | None


@dataclass(frozen=True)
class Supervised:
    """What the stage `supervised` depends on.

    Args:
        recipe: the student's.
        faces: how many rendered ones of the stream `seed`.
    """

    recipe: StudentStage
    faces: int
    seed: int

    def __post_init__(self) -> None:
        if self.faces <= self.recipe.val_images:
            raise UserError(
                f"compare.supervised_images is {self.faces}, and student.val_images takes "
                f"{self.recipe.val_images} of them; raise it to the number of pseudo-labels."
            )


def recipe_of(student: StudentStage) -> StudentStage:
    """A student's recipe without what it says of its own pictures and labels."""
    plain = StudentStage()
    return replace(
        student, source="faces", faces=plain.faces, resolution=plain.resolution,
        targets=plain.targets, temperature=plain.temperature,
    )  # fmt: skip


def train_labels_alone(config: LabelsAlone, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels`, `generator` and `annotations`."""
    labels = LabelSet.load(folder.inputs["labels"])
    source = artifact_hash(folder.inputs["generator"])
    samples, masks = read_samples(folder.inputs["annotations"], labels, source)
    chosen = pick(len(samples), config.shots, config.shots_seed)
    annotated = Exact(TensorDataset(samples.images[chosen], masks[chosen]))
    return train_network(config.recipe, labels, annotated, annotated, folder)


def train_supervised(config: Supervised, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels` and, for the size of its samples, `annotations`."""
    labels = LabelSet.load(folder.inputs["labels"])
    size = read_unlabelled(folder.inputs["annotations"])[0].images.shape[-1]
    faces = RenderedFaces(config.seed, config.faces, size, labels=labels)
    items = (zip(*faces.__getitems__(some), strict=True) for some in _chunks(faces))
    return _train(config.recipe, labels, (map(torch.stack, pair) for pair in items), folder)


def train_perfect_teacher(config: StudentStage, folder: StageFolder) -> Result:
    """Run the stage; reads the inputs `labels`, `pseudo_labels` and `annotator`.

    Raises:
        UserError: the annotator tells other classes apart.
    """
    labels = LabelSet.load(folder.inputs["labels"])
    check_annotator(folder.inputs["annotator"], labels)
    annotate = predictor(load_student(folder.inputs["annotator"])[0].to(PartialState().device))
    source = PseudoLabels(folder.inputs["pseudo_labels"])
    images = (torch.stack([source[i].image for i in some]) for some in _chunks(source))
    return _train(config, labels, ((some, segment(annotate, some)) for some in images), folder)


def check_annotator(path: Path, labels: LabelSet) -> None:
    """See that a network that is to label better than the teacher has the run's classes.

    Raises:
        UserError: it has others.
    """
    classes = read_json(path / ARCHITECTURE)["classes"]
    if classes != list(labels.names):
        raise UserError(
            f"sources.annotator {path} tells {', '.join(classes)} apart; it must have the run's "
            f"classes, {', '.join(labels.names)}."
        )


def _chunks(data: Dataset[Any]) -> Iterator[list[int]]:
    """The numbers of all items, some at a time, with a progress bar."""
    numbers = torch.arange(len(data)).split(_CHUNK)  # type: ignore[arg-type]
    bar = tqdm(numbers, "reference", unit="chunk", disable=not PartialState().is_main_process)
    return (some.tolist() for some in bar)


def _train(
    recipe: StudentStage,
    labels: LabelSet,
    parts: Iterable[Iterable[Tensor]],
    folder: StageFolder,
) -> Result:
    """Train on pictures and masks that come in parts, all but those held back."""
    data = Exact(TensorDataset(*(torch.cat(column) for column in zip(*parts, strict=True))))
    border = len(data) - recipe.val_images
    training, held_back = Part(data, range(border)), Part(data, range(border, len(data)))
    return train_network(recipe, labels, training, held_back, folder)
