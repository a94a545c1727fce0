"""Losses that teacher and student share.

Both divide by what the batch holds. Where a batch is spread over processes, `total` sums a tensor over
all of them, so that the loss is the whole batch's.

Shapes: B = batch, C = classes, H, W = pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Total = Callable[[Tensor], Tensor]


def alone(x: Tensor) -> Tensor:
    """The sum over processes where there is one."""
    return x


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    soft: Tensor | None = None,
    total: Total = alone,
) -> Tensor:
    """Mean cross-entropy of logits [B, C, H, W], each pixel weighted by `weight` [B, H, W].

    Args:
        target: classes [B, H, W].
        soft: probabilities [B, C, H, W] to learn instead of the classes.
    """
    counted = weight * (target != ignore_index)
    if soft is None:
        loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    else:
        loss = F.cross_entropy(logits, soft, reduction="none")
    lost, of = total(torch.stack([(loss * counted).sum(), counted.sum()]))
    return lost / of.clamp_min(1e-6)


def dice(
    logits: Tensor, target: Tensor, weight: Tensor, ignore_index: int, total: Total = alone
) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the classes that the batch holds.

    After Milletari et al., "V-Net" (2016): every class counts alike, however small.
    """
    counted = (weight * (target != ignore_index)).unsqueeze(1)
    probability = logits.float().softmax(1) * counted
    clean = target.masked_fill(target == ignore_index, 0)
    truth = F.one_hot(clean, logits.shape[1]).permute(0, 3, 1, 2) * counted
    overlap, both, present = total(
        torch.stack([t.sum((0, 2, 3)) for t in (probability * truth, probability + truth, truth)])
    )
    seen = present > 0
    return 1 - (2 * overlap[seen] / both[seen]).mean()


def lovasz(
    logits: Tensor, target: Tensor, weight: Tensor, ignore_index: int, total: Total = alone
) -> Tensor:
    """The Lovasz-Softmax loss: one minus IoU, made smooth, averaged over the classes in the batch.

    After Berman et al., "The Lovasz-Softmax loss" (2018), taken for every picture and class that it holds,
    so that pictures on several processes need not be sorted together. A pixel counts by its weight.
    """
    classes = logits.shape[1]
    counted = (weight * (target != ignore_index)).flatten(1).unsqueeze(1)
    clean = target.masked_fill(target == ignore_index, 0)
    truth = F.one_hot(clean, classes).permute(0, 3, 1, 2).flatten(2).float()
    probability = logits.float().softmax(1).flatten(2)
    errors, order = (truth - probability).abs().sort(-1, descending=True)
    with torch.no_grad():  # what IoU loses with each pixel more that is wrong, the worst ones first
        weights = counted.expand_as(truth).gather(-1, order)
        inside = weights * truth.gather(-1, order)
        size = inside.sum(-1, keepdim=True)
        union = size + (weights - inside).cumsum(-1)
        lost = 1 - (size - inside.cumsum(-1)) / union.clamp_min(1e-6)
        step = lost.diff(dim=-1, prepend=torch.zeros_like(size))
        present = (size[..., 0] > 0).float()
    each = (errors * step).sum(-1) * present
    summed, of = total(torch.stack([each.sum(0), present.sum(0)]))
    seen = of > 0
    return (summed[seen] / of[seen]).mean()
