"""How sure a difference between two models is: a paired bootstrap over the images.

Shapes: N = images, C = classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.confusion import mean_iou

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """One model's mIoU minus another's on the same images.

    Attributes:
        value: the difference, in [-1, 1].
        low: lower end of its 95 % confidence interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def paired_bootstrap(first: Tensor, second: Tensor) -> Difference:
    """The difference between two models in mIoU, and its confidence interval over images.

    Images are drawn with replacement, the same ones for both models (Efron and Tibshirani, "An Introduction
    to the Bootstrap", 1993); the interval holds the middle 95 % of the differences.

    Args:
        first: confusion matrices of each image [N, C, C].
        second: those of the model that is subtracted.
    """
    count, state = len(first), torch.Generator().manual_seed(_SEED)
    drawn = torch.randint(count, (_RESAMPLES, count), generator=state)
    times = torch.zeros(_RESAMPLES, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))

    def resampled_miou(matrices: Tensor) -> Tensor:
        flat = matrices.flatten(1).double().cpu()
        return mean_iou((times @ flat).view(-1, *matrices.shape[1:]))

    low, high = (resampled_miou(first) - resampled_miou(second)).quantile(
        torch.tensor([0.025, 0.975]).double()
    )
    value = mean_iou(first.sum(0)) - mean_iou(second.sum(0))
    return Difference(float(value), float(low), float(high))
