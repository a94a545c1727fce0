"""Networks like the student, taught otherwise: what its figures are to be held against.

Each is the student's network, trained by its recipe for as many steps, from another source:

`labels_alone`: the annotated samples alone; what the distillation adds to them.
`supervised`: rendered faces with exact masks; what there is to reach.
`perfect_teacher`: the student's own pictures, labelled by a better hand than the teacher's. From
`supervised` to here is what the generator costs, from here to the student what the teacher costs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import TensorDataset
from tqdm import tqdm

from datasets import Dataset
from datasets.artifacts import StageFolder, UserError
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.transforms import Exact
from student.data import Part
from student.fit import train_network
from student.network import Student, load_student, predictor
from student.recipe import StudentStage

REFERENCES = ("labels_alone", "supervised", "perfect_teacher")
_CHUNK = 50


def train_references(
    config: StudentStage,
    folder: StageFolder,
    labels: LabelSet,
    annotated: Dataset[Any],
    faces: RenderedFaces | None,
) -> list[str]:
    """Train them, each into a subfolder of its name; call on all ranks.

    Reads the inputs `annotator` and `pseudo_labels`, where they are given.

    Args:
        config: the student's recipe.
        annotated: pictures and masks of the annotated samples.
        faces: for `supervised`; none leaves it out.

    Returns:
        Their names.
    """
    recipe = replace(config, targets="hard", source="faces")
    annotator = _annotator(folder, labels)
    if faces is not None and len(faces) <= config.held_back:
        raise UserError(
            f"compare.supervised is {len(faces)}, and student.held_back takes {config.held_back} of "
            "them; raise it to the number of pseudo-labels."
        )
    shots = Exact(annotated)
    train_network(
        replace(recipe, held_back=len(shots)), labels, shots, shots, folder, "labels_alone"
    )
    names = ["labels_alone"]
    for name, data in _full_sets(folder, faces, annotator):
        border = len(data) - config.held_back
        parts = Part(data, range(border)), Part(data, range(border, len(data)))
        train_network(recipe, labels, *parts, folder, name)
        names.append(name)
    return names


def _full_sets(
    folder: StageFolder, faces: RenderedFaces | None, annotator: Student | None
) -> Iterator[tuple[str, Exact]]:
    """The sets that are as large as the student's, in memory."""
    if faces is not None:
        chunks = torch.arange(len(faces)).split(_CHUNK)
        drawn = (zip(*faces.__getitems__(chunk.tolist()), strict=True) for chunk in _shown(chunks))
        yield "supervised", _joined([tuple(map(torch.stack, pair)) for pair in drawn])
    if annotator is not None:
        source = PseudoLabels(folder.inputs["pseudo_labels"])
        labelled = []
        for chunk in _shown(torch.arange(len(source)).split(_CHUNK)):
            images = torch.stack([source[i].image for i in chunk.tolist()])
            labelled.append((images, predictor(annotator)(images)))
        yield "perfect_teacher", _joined(labelled)


def _annotator(folder: StageFolder, labels: LabelSet) -> Student | None:
    """The network that labels better than the teacher, where there is one."""
    path = folder.inputs.get("annotator")
    if path is None:
        return None
    network, about = load_student(path)
    if about["classes"] != list(labels.names):
        raise UserError(
            f"sources.annotator {path} tells {', '.join(about['classes'])} apart; it must have the "
            f"run's classes, {', '.join(labels.names)}."
        )
    return network.to(PartialState().device)


def _shown(chunks: tuple[Tensor, ...]) -> Iterator[Tensor]:
    return iter(tqdm(chunks, "reference", unit="chunk", disable=not PartialState().is_main_process))


def _joined(parts: Sequence[tuple[Tensor, ...]]) -> Exact:
    return Exact(TensorDataset(*(torch.cat(column) for column in zip(*parts, strict=True))))
