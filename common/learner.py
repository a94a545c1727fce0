"""A network while it learns: weights, their moving average, AdamW, and its learning rate."""

import math
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from common.errors import UserError


def warmup_cosine(peak: float, step: int, steps: int, warmup_steps: int) -> float:
    """Learning rate at `step` of `steps`: a linear warm-up, times a cosine from `peak` to zero."""
    warm = min(1.0, (step + 1) / max(warmup_steps, 1))
    return peak * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


class Learner:
    """Everything that a training goes on from, apart from its data.

    Args:
        network: what learns; it lies on its device.
        optimiser: of its parameters.
        ema_decay: decay of the moving average of the weights.

    Attributes:
        average: the moving average, which is what is evaluated and kept.
    """

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, ema_decay: float
    ) -> None:
        self.network, self.optimiser = network, optimiser
        self._ema = ModelEmaV3(network, decay=ema_decay, use_warmup=True)

    @property
    def average(self) -> nn.Module:
        return self._ema.module

    def set_learning_rate(self, value: float) -> None:
        """Of all parameters, from the next update on."""
        for group in self.optimiser.param_groups:
            group["lr"] = value

    def update(self, step: int) -> None:
        """Apply the gradients that `step` has collected, and let the average follow."""
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._ema.update(self.network, step=step)

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def require_finite(loss: Tensor, who: str, step: int, remedy: str, batch: str = "") -> None:
    """Stop a training whose loss is not a number.

    Args:
        who: as in "the student".
        remedy: as in "lower student.learning_rate".
        batch: what the step learned from, as in "samples 3, 17"; empty where that says nothing.

    Raises:
        UserError: the loss is not finite; it names the step.
    """
    if not torch.isfinite(loss):
        where = f"step {step} ({batch})" if batch else f"step {step}"
        raise UserError(
            f"{who}'s loss is {float(loss.detach())} at {where}; {remedy}. The last checkpoint is intact."
        )
