"""Losses of teacher and student: cross-entropy, Dice, Lovasz-Softmax.

Each loss is a quotient of two sums over the batch. If several processes hold parts of one batch, `total`
adds up a tensor over all of them, so that the loss is that of the whole batch.

Shapes: B = batch, C = classes, H, W = pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Total = Callable[[Tensor], Tensor]  # a tensor -> its sum over all processes


def single_process(x: Tensor) -> Tensor:
    """The sum over processes if there is only one."""
    return x


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    soft: Tensor | None = None,
    total: Total = single_process,
) -> Tensor:
    """Weighted mean cross-entropy over the pixels.

    Args:
        logits: [B, C, H, W].
        target: class indices [B, H, W].
        weight: of each pixel, [B, H, W].
        ignore_index: value in `target` of pixels that do not count.
        soft: probabilities [B, C, H, W] to learn in place of `target`.
        total: adds up over processes.
    """
    counted = weight * (target != ignore_index)
    if soft is None:
        loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    else:
        loss = F.cross_entropy(logits, soft, reduction="none")
    weighted_loss, weights = total(torch.stack([(loss * counted).sum(), counted.sum()]))
    return weighted_loss / weights.clamp_min(1e-6)


def dice(
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    total: Total = single_process,
) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the classes in the batch.

    Milletari et al., "V-Net" (2016). Every class counts the same, however few pixels it has. The
    arguments are those of `cross_entropy`.
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
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    total: Total = single_process,
) -> Tensor:
    """The Lovasz-Softmax loss, a smooth extension of one minus IoU, averaged over the classes in the batch.

    Berman et al., "The Lovasz-Softmax loss" (2018). It is taken for each image and each class in that
    image, so that pixels need not be sorted across processes. The arguments are those of `cross_entropy`.
    """
    classes = logits.shape[1]
    counted = (weight * (target != ignore_index)).flatten(1).unsqueeze(1)
    clean = target.masked_fill(target == ignore_index, 0)
    truth = F.one_hot(clean, classes).permute(0, 3, 1, 2).flatten(2).float()
    probability = logits.float().softmax(1).flatten(2)
    errors, order = (truth - probability).abs().sort(-1, descending=True)
    with (
        torch.no_grad()
    ):  # by how much IoU falls with each further wrong pixel, largest errors first
        weights = counted.expand_as(truth).gather(-1, order)
        inside = weights * truth.gather(-1, order)
        size = inside.sum(-1, keepdim=True)
        union = size + (weights - inside).cumsum(-1)
        jaccard_loss = 1 - (size - inside.cumsum(-1)) / union.clamp_min(1e-6)
        gradient = jaccard_loss.diff(dim=-1, prepend=torch.zeros_like(size))
        present = (size[..., 0] > 0).float()
    per_class = (errors * gradient).sum(-1) * present
    summed, images = total(torch.stack([per_class.sum(0), present.sum(0)]))
    seen = images > 0
    return (summed[seen] / images[seen]).mean()
