"""Which sample is most worth the next strokes."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from teacher.generators.choosing import Choice, Look
from teacher.stroke_learner import Answer

_SHARE = 0.1  # of a sample's pixels, those in most doubt
_SEEN = 64  # px of an answer that are looked at: the page asks for the doubt of all samples often


def doubt_of(answer: Answer, strokes: Sequence[int]) -> float:
    """How much an answer leaves in doubt: the mean over its most doubtful pixels.

    Args:
        strokes: number of strokes of each class; classes that have few count more.
    """
    need = 1 / np.sqrt(np.asarray(strokes) + 1.0)
    doubt, classes = _coarse(answer.doubt), _coarse(answer.classes)
    weighted = doubt / 255 * (need / need.mean())[classes]
    count = max(1, int(_SHARE * weighted.size))
    return float(np.partition(weighted.reshape(-1), -count)[-count:].mean())


def _coarse(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    step = max(1, len(plane) // _SEEN)
    return plane[::step, ::step]


def most_worth(
    doubts: Mapping[int, float], looks: Sequence[Look], drawn: Collection[int], but: Collection[int]
) -> int | None:
    """The sample that tells most of all that are in doubt.

    A sample of much doubt alone is an odd one, from which little is learned of others, and where hair hides
    the brows nothing is learned of brows. So a sample's worth is that of `Choice`, and doubt says how much
    each sample needs one near to it.

    Args:
        doubts: of the samples to choose from.
        looks: of every sample.
        drawn: samples with strokes.
        but: samples that are not wanted; none is chosen where no other is left.
    """
    numbers = list(doubts)
    wanted = [i for i, n in enumerate(numbers) if n not in but and n not in drawn]
    if not wanted:
        return None
    choice = Choice([looks[n] for n in numbers])
    chosen = [i for i, n in enumerate(numbers) if n in drawn]
    worth = choice.worth(chosen, torch.tensor(list(doubts.values())))
    return numbers[max(wanted, key=lambda i: float(worth[i]))]
