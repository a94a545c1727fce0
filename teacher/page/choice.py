"""Which sample is most worth the next strokes.

Shapes: N = samples, D = length of a profile.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from teacher.stroke_learner import Answer

_SHARE = 0.1  # of a sample's pixels, those in most doubt
_SEEN = 64  # px of an answer that are looked at: the page asks for the doubt of all samples often
_SHOWN = 4  # power of what a sample shows of all classes
_SIDE = 4  # of the grid on which a profile sees the features


def profile_of(pack: Sequence[Tensor]) -> Tensor:
    """What a sample looks like at large, as a vector [D]: its features on a coarse grid."""
    coarse = [F.adaptive_avg_pool2d(f.float(), _SIDE).flatten() for f in pack]
    return torch.cat(coarse).half()


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


def in_sight(answers: Mapping[int, Answer], classes: int) -> dict[int, float]:
    """How much samples show of every class, beside the mean of all: from 0 to 1, all classes there.

    Args:
        classes: number of classes.
    """
    counts = {
        n: np.bincount(_coarse(answer.classes).reshape(-1), minlength=classes)[:classes]
        for n, answer in answers.items()
    }
    mean = np.mean(list(counts.values()), axis=0).clip(1e-6) if counts else 1.0
    return {n: float(np.minimum(count / mean, 1).mean()) for n, count in counts.items()}


def most_worth(
    doubts: Mapping[int, float],
    seen: Mapping[int, float],
    profiles: Sequence[Tensor],
    drawn: Collection[int],
    but: Collection[int],
) -> int | None:
    """The sample with most doubt around it that no sample with strokes is near to.

    A sample of much doubt alone is an odd one, from which little is learned of others. So each sample's
    doubt counts for all that would be nearer to it than what was drawn (facility location). And where hair
    hides the brows nothing is learned of brows: samples that show all classes are preferred.

    Args:
        doubts: of the samples to choose from.
        seen: how much they show of every class, see `in_sight`.
        profiles: a vector [D] of every sample.
        drawn: samples with strokes.
        but: samples that are not wanted; none is chosen where no other is left.
    """
    numbers = [n for n in doubts if n not in but and n not in drawn]
    if not numbers:
        return None
    every = torch.stack([profiles[n] for n in doubts]).float()
    doubt = torch.tensor(list(doubts.values()))
    near = torch.cdist(torch.stack([profiles[n] for n in numbers]).float(), every)
    covered = near.amax()
    if drawn:
        there = torch.stack([profiles[n] for n in sorted(drawn)]).float()
        covered = torch.cdist(there, every).amin(0)
    shown = torch.tensor([seen[n] for n in numbers]) ** _SHOWN
    gain = ((covered - near).clamp_min(0) * doubt).sum(1) * shown
    return numbers[int(gain.argmax())]
