"""Which sample is most worth the next stroke."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from teacher.stroke_learner import Answer

_SHARE = 0.1  # of a sample's pixels, those in most doubt


def doubt_of(answer: Answer, strokes: Sequence[int]) -> float:
    """How much an answer leaves in doubt: the mean over its most doubtful pixels.

    Args:
        strokes: number of strokes of each class; classes that have few count more.
    """
    need = 1 / np.sqrt(np.asarray(strokes) + 1.0)
    weighted = answer.doubt * (need / need.mean())[answer.classes]
    count = max(1, int(_SHARE * weighted.size))
    return float(np.partition(weighted.reshape(-1), -count)[-count:].mean())


def most_worth(
    doubts: Mapping[int, float],
    codes: Sequence[Tensor],
    drawn: Collection[int],
    but: Collection[int],
) -> int | None:
    """The sample of most doubt that is also far, in the latent space, from those with strokes.

    Args:
        doubts: of the samples to choose from.
        codes: a vector of every sample.
        drawn: samples with strokes.
        but: samples that are not wanted; none is chosen where no other is left.
    """
    numbers = [n for n in doubts if n not in but]
    if not numbers:
        return None
    doubt = torch.tensor([doubts[n] for n in numbers])
    if drawn:
        every = torch.stack(list(codes)).float()
        every = (every - every.mean(0)) / every.std(0, correction=0).clamp_min(1e-6)
        doubt = doubt * torch.cdist(every[numbers], every[sorted(drawn)]).amin(1)
    return numbers[int(doubt.argmax())]
