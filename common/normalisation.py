"""What batch normalisation has to normalise, found out before a training begins.

The deviation of a single value is zero, so that a layer would always give the same: PyTorch refuses it in
the first step, with a sentence that names no option.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# PyTorch has no public name for what its batch normalisations have in common.
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def normalised_places(network: nn.Module, side: int) -> dict[str, tuple[nn.Module, int]]:
    """Batch normalisations by name, and the values of a channel that each has of one image."""
    found: dict[str, tuple[nn.Module, int]] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x: Tensor = inputs[0]
        found[name] = (module, x.numel() // x.shape[1])

    hooks = [
        module.register_forward_pre_hook(partial(note, name))
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    training, device = network.training, next(network.parameters()).device
    try:
        network.eval()(torch.zeros(1, 3, side, side, device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found
