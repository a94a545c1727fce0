"""Two answers of probabilities made one."""

from torch import Tensor

_LEAST = 1e-4  # probability: no answer is so sure that the other one could not change it


def join_answers(first: Tensor, second: Tensor, weight: float | Tensor) -> Tensor:
    """The weighted geometric mean of two answers, which sums to one again.

    Unlike the arithmetic mean it follows whoever is surer that a class is not there.

    Args:
        first, second: probabilities [B, C, H, W].
        weight: of the first, or one for each pixel [B, 1, H, W]; the second's is what is left to 1.
    """
    logs = [answer.float().clamp_min(_LEAST).log() for answer in (first, second)]
    return (weight * logs[0] + (1 - weight) * logs[1]).softmax(1)
