"""Confusion matrices, and the IoU and pixel accuracy that follow from them.

A data set's IoU comes from one matrix over all its pixels. Classes that are absent from the ground truth
have no IoU: they are left out of the mean and listed by name.

Shapes: N = images, H, W = pixels, C = classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_BATCH = 8


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Pixel counts, int64 [C, C]: a row for each true class, a column for each predicted class.

    Args:
        truth: class indices of any shape; pixels with another value (the ignore index) are not counted.
        prediction: class indices of the same shape.
        classes: number of classes C.
    """
    truth, prediction = truth.flatten().long(), prediction.flatten().long()
    counted = (truth >= 0) & (truth < classes)
    cells = truth[counted] * classes + prediction[counted]
    return torch.bincount(cells, minlength=classes * classes).view(classes, classes)


def confusion_per_image(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """One confusion matrix for each image of [N, H, W], int64 [N, C, C]."""
    pairs = zip(truth, prediction, strict=True)
    return torch.stack([confusion_matrix(*pair, classes) for pair in pairs])


def class_iou(matrices: Tensor) -> Tensor:
    """IoU of each class from confusion matrices [..., C, C]: float64 [..., C], NaN where absent."""
    matrices = matrices.cpu().double()  # Apple's GPUs have no float64
    hit = matrices.diagonal(dim1=-2, dim2=-1)
    true = matrices.sum(-1)
    union = true + matrices.sum(-2) - hit
    return torch.where(true > 0, hit / union, torch.nan)


def mean_iou(matrices: Tensor) -> Tensor:
    """Mean IoU of confusion matrices [..., C, C] over the classes in each ground truth, [...]."""
    return class_iou(matrices).nanmean(-1)


def predicted_miou(
    predict: Callable[[Tensor], Tensor], images: Tensor, truth: Tensor, classes: int
) -> float:
    """mIoU of a segmenter on a set of images.

    Args:
        predict: uint8 images [N, 3, H, W] -> masks [N, H, W].
        images: uint8 [N, 3, H, W].
        truth: class indices [N, H, W].
        classes: number of classes C.
    """
    masks = torch.cat([predict(batch) for batch in images.split(_BATCH)])
    return float(mean_iou(confusion_matrix(truth, masks, classes)))


def iou_figures(matrix: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Figures of one confusion matrix [C, C], all in [0, 1].

    Returns:
        `miou` over all classes, `miou_foreground` without class 0 (background), `iou` of each class by
        name, `absent` (names of the classes that the ground truth lacks), `pixel_accuracy`.
    """
    counts, each = matrix.cpu().double(), class_iou(matrix).tolist()
    iou = {name: value for name, value in zip(names, each, strict=True) if not math.isnan(value)}
    foreground = [value for name, value in iou.items() if name != names[0]]
    return {
        "miou": sum(iou.values()) / max(len(iou), 1),
        "miou_foreground": sum(foreground) / max(len(foreground), 1),
        "iou": iou,
        "absent": [name for name in names if name not in iou],
        "pixel_accuracy": float(counts.diag().sum() / counts.sum().clamp_min(1)),
    }
