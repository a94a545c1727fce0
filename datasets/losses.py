"""Losses that teacher and student share.

Shapes: B = batch, C = classes, H, W = pixels.
"""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor, ignore_index: int, soft: Tensor | None = None
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
    return (loss * counted).sum() / counted.sum().clamp_min(1e-6)


def dice(logits: Tensor, target: Tensor, weight: Tensor, ignore_index: int) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the classes that the batch holds.

    After Milletari et al., "V-Net" (2016): every class counts alike, however small.
    """
    counted = (weight * (target != ignore_index)).unsqueeze(1)
    probability = logits.float().softmax(1) * counted
    clean = target.masked_fill(target == ignore_index, 0)
    truth = F.one_hot(clean, logits.shape[1]).permute(0, 3, 1, 2) * counted
    overlap = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    return 1 - (2 * overlap[present] / total[present]).mean()
