"""What every model says of a set of pictures, and the figures that follow from it."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from common.confusion import confusion_matrix, confusion_of_each, iou_figures, mean_iou
from datasets.labels import LabelSet
from datasets.sheets import at_once
from datasets.test_sets import Truth
from evaluation.measures import boundary_iou, paired_bootstrap
from student.network import Predict

Says = Callable[[list[int]], Tensor]  # numbers of pictures -> their label maps, uint8 [N, H, W]

STUDENT, EXPORTED = "student", "student_onnx"
TRUE_FEATURES, BY_INVERSION = TEACHERS = "teacher", "teacher_by_inversion"
INVERTED = "_inverted"  # ends the name of a set that has a row for the teacher by inversion
_BLOCK, _WARM_UP = 5, 3  # calls


@dataclass(frozen=True)
class Scored:
    """Label maps of one set of pictures.

    Attributes:
        pictures: uint8 [N, 3, H, W].
        truth: classes, uint8 [N, H, W].
        about: what else is to be known of the set.
        masks: of every model, as `truth`.
        seconds: of every model, for one picture: the median of some, one at a time.
    """

    pictures: Tensor
    truth: Tensor
    about: Mapping[str, Any]
    masks: dict[str, Tensor]
    seconds: dict[str, float]

    def first(self, count: int) -> "Scored":
        """The same of the first pictures."""
        masks = {name: mask[:count] for name, mask in self.masks.items()}
        return Scored(self.pictures[:count], self.truth[:count], self.about, masks, self.seconds)

    def beside(
        self, model: str, masks: Tensor, seconds: float, about: Mapping[str, Any]
    ) -> "Scored":
        """The same with one more model, behind the teacher and before all others."""
        order = sorted(
            {**self.masks, model: masks}.items(), key=lambda item: item[0] not in TEACHERS
        )
        return Scored(
            self.pictures, self.truth, {**self.about, **about}, dict(order),
            {**self.seconds, model: seconds},
        )  # fmt: skip

    def figures(self, labels: LabelSet) -> dict[str, Any]:
        """All figures of the set, as they stand in `comparison.json`."""
        each = {
            name: confusion_of_each(self.truth, mask, len(labels))
            for name, mask in self.masks.items()
        }
        rows: dict[str, dict[str, Any]] = {}
        for name, matrices in each.items():
            rows[name] = iou_figures(matrices.sum(0), labels.names)
            edges = boundary_iou(self.truth, self.masks[name], len(labels))
            by_class = zip(labels.names, edges.tolist(), strict=True)
            rows[name] |= {
                "boundary_miou": float(edges.nanmean()),
                "boundary_iou": {k: v for k, v in by_class if k in rows[name]["iou"]},
                "confusion": matrices.sum(0).tolist(),
                "seconds_per_image": self.seconds[name],
            }
        against = {
            teacher: {
                **asdict(paired_bootstrap(each[STUDENT], each[teacher])),
                "agreement": self._agreement(STUDENT, teacher, len(labels)),
                "times_faster": {
                    name: self.seconds[teacher] / self.seconds[name] for name in (STUDENT, EXPORTED)
                },
            }
            for teacher in TEACHERS
            if teacher in each
        }
        return {**self.about, "images": len(self.truth), "models": rows, "student_minus": against}

    def _agreement(self, one: str, other: str, classes: int) -> float:
        """Share of the pixels with a true class of which two models say the same."""
        same = self.masks[one] == self.masks[other]
        return float(same[self.truth < classes].float().mean())


def segment(predict: Predict, pictures: Tensor) -> Tensor:
    """What a model says of pictures [N, 3, H, W], as many at once as suit their size: [N, H, W]."""
    return torch.cat([predict(some) for some in pictures.split(at_once(pictures))])


def miou(predict: Predict, pictures: Tensor, truth: Tensor, classes: int) -> float:
    """Mean IoU of one model on pictures [N, 3, H, W]."""
    return float(mean_iou(confusion_matrix(truth, segment(predict, pictures), classes)))


def hardware() -> str:
    """What the times are taken on; what is exported runs on the CPU."""
    cpu = f"CPU, {torch.get_num_threads()} threads"
    if PartialState().device.type == "cuda":
        return f"{torch.cuda.get_device_name()} (exported: {cpu})"
    return cpu


def score(given: Truth, says: Mapping[str, Says], timed: int) -> Scored:
    """Ask every model for all pictures of a set, then for `timed` of them one at a time."""
    numbers, step = list(range(len(given.pictures))), at_once(given.pictures)
    parts = [numbers[start : start + step] for start in range(0, len(numbers), step)]
    masks = {name: torch.cat([model(part) for part in parts]) for name, model in says.items()}
    seconds = seconds_each(says, len(numbers), timed)
    return Scored(given.pictures, given.masks, given.about, masks, seconds)


def seconds_each(says: Mapping[str, Says], count: int, timed: int) -> dict[str, float]:
    """Median seconds of every model for one of `count` pictures.

    They take turns in blocks, so that what else the machine does falls on all of them. The first calls of a
    block do not count: the threads of the model before may still be spinning.
    """
    taken: dict[str, list[float]] = {name: [] for name in says}
    for first in range(0, timed, _BLOCK):
        for name, model in says.items():
            for i in range(first - _WARM_UP, min(first + _BLOCK, timed)):
                begun = time.perf_counter()
                model([i % count])  # ends with a copy to the CPU, which waits for the device
                if i >= first:
                    taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}
