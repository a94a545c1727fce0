"""Boundary mIoU: IoU near the classes' edges, so that a large area cannot hide a ragged outline.

Cheng et al., "Boundary IoU" (2021).

Shapes: N = images, H, W = pixels, C = classes.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.sheets import batch_size_for
from evaluation.metrics.base import Measured, Metric, Segmentation

_THICKNESS = 0.02  # of an edge, as a share of the image's diagonal; one pixel at least


class EdgePixels(NamedTuple):
    """Pixel counts near the inner edges of each class, float64 [N, C] or, summed, [C]."""

    intersection: Tensor
    union: Tensor
    truth: Tensor

    @property
    def iou(self) -> Tensor:
        """Boundary IoU; NaN where the ground truth lacks the class."""
        return torch.where(self.truth > 0, self.intersection / self.union, torch.nan)


def count_edge_pixels(truth: Tensor, masks: Tensor, classes: int) -> EdgePixels:
    """Compare the edges of the ground truth and of the predicted masks, image by image.

    Args:
        truth: class indices [N, H, W]; pixels with another value are left out.
        masks: predicted class indices [N, H, W].
        classes: number of classes C.
    """
    reach = max(1, round(_THICKNESS * math.hypot(*truth.shape[-2:])))
    size = batch_size_for(truth)
    parts = []
    for batch in zip(truth.split(size), masks.split(size), strict=True):
        counted = ((batch[0] >= 0) & (batch[0] < classes)).unsqueeze(1)
        edges = []
        for mask in batch:
            one_hot = F.one_hot(mask.long().clamp(0, classes - 1), classes).permute(0, 3, 1, 2)
            edges.append(_inner_edge(one_hot.bool() & counted, reach))
        true, predicted = edges
        parts.append([e.sum((2, 3)) for e in (true & predicted, true | predicted, true)])
    return EdgePixels(*(torch.cat(column).double() for column in zip(*parts, strict=True)))


def _inner_edge(masks: Tensor, reach: int) -> Tensor:
    """Pixels of masks [N, C, H, W] with another class, or the image's border, within reach."""
    others = F.pad((~masks).float(), [reach] * 4, value=1.0)
    side = 2 * reach + 1  # the maximum over a square: over rows, then over columns
    return masks & (F.max_pool2d(F.max_pool2d(others, (1, side), 1), (side, 1), 1) > 0)


def measure(segmentation: Segmentation) -> Measured:
    """Pixels are summed over the set before dividing; `boundary_iou` has the value of each class."""
    names = segmentation.labels.names
    pixels = count_edge_pixels(segmentation.truth, segmentation.masks, len(names))
    iou = EdgePixels(*(column.sum(0) for column in pixels)).iou
    by_class = zip(names, iou.tolist(), strict=True)
    present = {name: value for name, value in by_class if not math.isnan(value)}
    return Measured(float(iou.nanmean()), pixels.iou.nanmean(1), {"boundary_iou": present})


BOUNDARY_MIOU = Metric(
    "boundary_miou", "edges", "mean IoU near the edges of the classes (boundary IoU)", measure
)
