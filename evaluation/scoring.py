"""From masks to figures: what `comparison.json` holds of a test set."""

import math
from dataclasses import asdict
from typing import Any

from torch import Tensor

from common.confusion import confusion_per_image, iou_figures
from datasets.labels import LabelSet
from evaluation.bootstrap import paired_bootstrap
from evaluation.metrics import METRICS
from evaluation.metrics.base import Segmentation
from evaluation.predictions import SetPredictions
from evaluation.rows import EXPORTED, STUDENT, TEACHERS


def score(predictions: SetPredictions, labels: LabelSet) -> dict[str, Any]:
    """All figures of a test set: a row for each model, and the student's difference to each teacher."""
    models = {
        name: Segmentation(
            predictions.truth,
            masks,
            confusion_per_image(predictions.truth, masks, len(labels)),
            labels,
        )
        for name, masks in predictions.masks.items()
    }
    return {
        **predictions.about,
        "images": len(predictions.truth),
        "models": {
            name: _row(segmentation) | {"seconds_per_image": predictions.seconds[name]}
            for name, segmentation in models.items()
        },
        "student_minus": {
            teacher: {
                **_difference(models[STUDENT], models[teacher]),
                "times_faster": {
                    name: predictions.seconds[teacher] / predictions.seconds[name]
                    for name in (STUDENT, EXPORTED)
                },
            }
            for teacher in TEACHERS
            if teacher in models
        },
    }


def _row(segmentation: Segmentation) -> dict[str, Any]:
    """Every metric's value, its value for each image, and IoU by class."""
    measured = {name: metric.measure(segmentation) for name, metric in METRICS.items()}
    confusion = segmentation.confusion.sum(0)
    figures = iou_figures(confusion, segmentation.labels.names)
    row: dict[str, Any] = {name: values.value for name, values in measured.items()}
    for values in measured.values():
        row |= values.details
    return row | {
        "iou": figures["iou"],
        "absent": figures["absent"],
        "confusion": confusion.tolist(),
        "per_image": {name: _rounded(values.per_image) for name, values in measured.items()},
    }


def _rounded(values: Tensor) -> list[float | None]:
    """To four digits; None for NaN, which JSON does not have."""
    return [None if math.isnan(value) else round(value, 4) for value in values.tolist()]


def _difference(student: Segmentation, teacher: Segmentation) -> dict[str, float]:
    """The student's mIoU minus the teacher's, and the share of labelled pixels with the same class."""
    same = student.masks == teacher.masks
    labelled = student.truth < len(student.labels)
    return {
        **asdict(paired_bootstrap(student.confusion, teacher.confusion)),
        "agreement": float(same[labelled].float().mean()),
    }
