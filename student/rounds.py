"""What a student of a later round begins with, and whether it is better than the one before.

Shapes: N = images, H, W = pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from common.confusion import confusion_matrix, iou_figures
from common.errors import UserError
from common.stage_folder import StageFolder, artifact_hash
from datasets import Dataset
from datasets.annotations import read_all_annotated
from datasets.fetch import fetch
from datasets.labels import LabelSet
from student.network import Predict, build_student, load_student, predict_all, predictor
from student.recipe import StudentStage

# Inputs: samples that people labelled; the last one that there is decides.
_SETS = ("annotations", "test_annotations")
_SHRUNK = 0.5  # a class that keeps less of its pixels is warned of


def start_weights(
    folder: Path, recipe: StudentStage, classes: int, side: int
) -> Mapping[str, Tensor]:
    """The weights of a finished student that another one goes on from.

    Args:
        folder: of the finished student.
        recipe: of the other one.
        side: of the images, in pixels.

    Raises:
        UserError: its network is not the recipe's.
    """
    weights = load_student(folder)[0].state_dict()
    own = build_student(replace(recipe.network, pretrained=False), classes, side).state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        raise UserError(
            f"{folder} has another network than student.network; name the same one, or set "
            "rounds.student.from_weights to false."
        )
    return weights


def judge(folder: StageFolder, labels: LabelSet, validation: Dataset[Any]) -> dict[str, Any]:
    """Hold the student that a stage has just written against the one before, and print what is to be known.

    Args:
        folder: of the stage. Its inputs are `student_before`, `generator` and, where there are any,
            `annotations` and `test_annotations`.
        validation: data set of `Labelled` items, whose images were kept from training.

    Returns:
        `taken`: whether the new student is no worse on the labelled samples, if there are any; `miou`:
        before and after on each set of them; `agreement`: share of the pixels of `validation` to which
        both give the same class; `shares`: share of these pixels that each class has, before and after.
    """
    device = PartialState().device
    paths = (folder.inputs["student_before"], folder.path)
    students = [predictor(load_student(path)[0].to(device)) for path in paths]
    miou = {
        name: [_miou(student, folder, name, labels) for student in students]
        for name in _SETS
        if name in folder.inputs
    }
    decisive = [*miou.values()][-1:]  # with nothing to judge by, the new one is taken
    images = torch.stack([item.image for item in fetch(validation, range(len(validation)))])  # type: ignore[arg-type]
    old, new = (predict_all(student, images) for student in students)
    shares = {
        name: [float((masks == number).float().mean()) for masks in (old, new)]
        for number, name in enumerate(labels.names)
    }
    verdict = {
        "taken": all(after >= before for before, after in decisive),
        "miou": miou,
        "agreement": float((old == new).float().mean()),
        "shares": shares,
    }
    _print(verdict, shares)
    return verdict


def _miou(student: Predict, folder: StageFolder, name: str, labels: LabelSet) -> float:
    """mIoU of a student on the annotated samples that inputs of this name hold."""
    generator = artifact_hash(folder.inputs["generator"])
    samples, masks = read_all_annotated(folder.inputs, labels, generator, name)
    matrix = confusion_matrix(masks, predict_all(student, samples.images), len(labels))
    return float(iou_figures(matrix, labels.names)["miou"])


def warn_of_shrunk(shares: Mapping[str, Sequence[float]], before: str) -> None:
    """Print which classes have less than half of the pixels that they had.

    Args:
        shares: of each class by name, its share of the pixels before and after.
        before: what gave the shares before.
    """
    for name, (old, new) in shares.items():
        if new < _SHRUNK * old:
            print(
                f"warning: the student gives {name} {100 * new:.2f} % of the validation pixels, {before} "
                f"{100 * old:.2f} %: it may confirm its own errors; look at its masks."
            )


def _print(verdict: Mapping[str, Any], shares: Mapping[str, list[float]]) -> None:
    told = "".join(
        f"mIoU {100 * before:.1f} -> {100 * after:.1f} on {name}; "
        for name, (before, after) in verdict["miou"].items()
    )
    print(
        f"student: {told}{100 * verdict['agreement']:.1f} % of the pixels have the class they had"
    )
    warn_of_shrunk(shares, "the student of the round before")
    if not verdict["taken"]:
        print(
            "warning: the student of this round is worse than the one before and is not taken; the files "
            "are those of the round before."
        )
