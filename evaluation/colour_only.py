"""The row `colour_only`: how far the colour and position of single pixels go.

Shapes: N = images, H, W = pixels, C = classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.seeding import seed_everything

_WIDTH = 64
_BATCH = 16_384  # pixels in a step at most, drawn at random


class ColourOnly(nn.Module):
    """A small perceptron on (red, green, blue, x, y) of each pixel: uint8 images -> logits [N, C, H, W]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(5, _WIDTH, 1), nn.ReLU(), nn.Conv2d(_WIDTH, _WIDTH, 1), nn.ReLU(),
            nn.Conv2d(_WIDTH, classes, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(pixel_inputs(images))

    def classify(self, inputs: Tensor) -> Tensor:
        """Logits from colour and position [N, 5, H, W]."""
        logits: Tensor = self.layers(inputs)
        return logits


def pixel_inputs(images: Tensor) -> Tensor:
    """Colour and position of every pixel of images [N, 3, H, W], all in [-1, 1]: [N, 5, H, W]."""
    count, _, height, width = images.shape
    y = torch.linspace(-1, 1, height, device=images.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, -1)
    position = torch.cat([x.expand(count, 1, height, width), y.expand(count, 1, height, width)], 1)
    return torch.cat([images.float() / 127.5 - 1, position], 1)


def fit_colour_only(
    images: Tensor, masks: Tensor, classes: int, ignore_index: int, seed: int, steps: int = 600
) -> ColourOnly:
    """Train the baseline on annotated images; takes seconds on a CPU at any resolution.

    Args:
        images: uint8 [N, 3, H, W].
        masks: class indices [N, H, W], on the same device.
        classes: number of classes C.
        ignore_index: value of pixels in `masks` that do not count.
        seed: seed of weights and pixels.
        steps: optimiser steps.
    """
    seed_everything(seed)
    model = ColourOnly(classes).to(images.device)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    inputs = pixel_inputs(images).transpose(0, 1).flatten(1)[None, :, None]  # [1, 5, 1, pixels]
    target = masks.long().view(1, 1, -1)
    for _ in range(steps):
        batch, batch_target = inputs, target
        if inputs.shape[-1] > _BATCH:
            chosen = torch.randint(inputs.shape[-1], (_BATCH,), device=inputs.device)
            batch, batch_target = inputs[..., chosen], target[..., chosen]
        loss = F.cross_entropy(model.classify(batch), batch_target, ignore_index=ignore_index)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval().requires_grad_(False)
