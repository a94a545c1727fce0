"""Confusion matrices and intersection over union.

The figure of a data set comes from one matrix over all its pixels. Classes that the truth does not
hold are left out of the mean and named.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Pixel counts, int64 [classes, classes]: rows are the truth, columns the prediction.

    Pixels whose truth is no class (the ignore index) are left out.
    """
    truth, prediction = truth.flatten().long(), prediction.flatten().long()
    counted = (truth >= 0) & (truth < classes)
    cells = truth[counted] * classes + prediction[counted]
    return torch.bincount(cells, minlength=classes * classes).view(classes, classes)


def confusion_of_each(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """A confusion matrix for every picture of [N, H, W], int64 [N, classes, classes]."""
    pairs = zip(truth, prediction, strict=True)
    return torch.stack([confusion_matrix(*pair, classes) for pair in pairs])


def mean_iou(matrices: Tensor) -> Tensor:
    """Mean IoU of confusion matrices [..., C, C] over the classes that each truth holds, [...]."""
    matrices = matrices.cpu().double()  # Apple's GPUs have no doubles
    hit = matrices.diagonal(dim1=-2, dim2=-1)
    true = matrices.sum(-1)
    union = true + matrices.sum(-2) - hit
    return torch.where(true > 0, hit / union, torch.nan).nanmean(-1)


def iou_figures(matrix: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """IoU per class, their mean, and the mean without class 0 (background).

    Classes absent from the truth have no IoU: they are listed under `absent`.
    """
    matrix = matrix.cpu().double()
    hit = matrix.diag()
    union = matrix.sum(0) + matrix.sum(1) - hit
    present = [i for i in range(len(names)) if matrix[i].sum() > 0]
    iou = {names[i]: float(hit[i] / union[i]) for i in present}
    foreground = [value for i, value in zip(present, iou.values(), strict=True) if i != 0]
    return {
        "miou": sum(iou.values()) / max(len(iou), 1),
        "miou_foreground": sum(foreground) / max(len(foreground), 1),
        "iou": iou,
        "absent": [name for i, name in enumerate(names) if i not in present],
        "pixel_accuracy": float(hit.sum() / matrix.sum().clamp_min(1)),
    }
