"""What a comparison measures beside IoU: boundaries, and how sure a difference is.

Shapes: N = pictures, H, W = pixels, C = classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.confusion import mean_iou
from datasets.sheets import at_once


def boundary_iou(
    truth: Tensor, prediction: Tensor, classes: int, thickness: float = 0.02
) -> Tensor:
    """IoU of what lies near the inner edges of each class, [C]; NaN where the truth has none of it.

    After Cheng et al., "Boundary IoU" (2021), summed over all pictures before dividing. Large
    parts cannot hide a ragged outline behind their area here.

    Args:
        truth, prediction: classes [N, H, W]; pixels that are no class of the truth are left out.
        thickness: of an edge, as a share of the picture's diagonal; one pixel at least.
    """
    reach = max(1, round(thickness * math.hypot(*truth.shape[-2:])))
    shared, either, held = (torch.zeros(classes, dtype=torch.float64) for _ in range(3))
    step = at_once(truth)
    for true, said in zip(truth.split(step), prediction.split(step), strict=True):
        counted = ((true >= 0) & (true < classes)).unsqueeze(1)
        edges = []
        for mask in (true, said):
            one_hot = F.one_hot(mask.long().clamp(0, classes - 1), classes).permute(0, 3, 1, 2)
            edges.append(_inner_edge(one_hot.bool() & counted, reach))
        shared += (edges[0] & edges[1]).sum((0, 2, 3))
        either += (edges[0] | edges[1]).sum((0, 2, 3))
        held += edges[0].sum((0, 2, 3))
    return torch.where(held > 0, shared / either, torch.nan)


def _inner_edge(masks: Tensor, reach: int) -> Tensor:
    """Pixels of masks [N, C, H, W] from which another class, or the outside, is in reach."""
    others = F.pad((~masks).float(), [reach] * 4, value=1.0)
    side = 2 * reach + 1  # a square's largest: of the largest of its rows
    return masks & (F.max_pool2d(F.max_pool2d(others, (1, side), 1), (side, 1), 1) > 0)


@dataclass(frozen=True)
class Difference:
    """One model's mIoU minus another's, on the same pictures.

    Attributes:
        low, high: its 95 % interval.
    """

    value: float
    low: float
    high: float


def paired_bootstrap(
    mine: Tensor, theirs: Tensor, resamples: int = 2000, seed: int = 0
) -> Difference:
    """How far the difference of two models would move, had other pictures been drawn.

    Pictures are drawn with replacement, the same for both (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993); the interval holds the middle 95 % of the differences.

    Args:
        mine, theirs: confusion matrices of each picture [N, C, C].
    """
    count, state = len(mine), torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=state)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))

    def resampled(matrices: Tensor) -> Tensor:
        flat = matrices.flatten(1).double().cpu()
        return mean_iou((times @ flat).view(-1, *matrices.shape[1:]))

    low, high = (resampled(mine) - resampled(theirs)).quantile(
        torch.tensor([0.025, 0.975]).double()
    )
    value = mean_iou(mine.sum(0)) - mean_iou(theirs.sum(0))
    return Difference(float(value), float(low), float(high))
