"""The baseline `colour_only`: what colour and position of a single pixel give away."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.seeding import seed_everything

_PIXELS = 16_384  # a step sees this many at the most, drawn at random


class ColourOnly(nn.Module):
    """A small perceptron on (red, green, blue, x, y) of each pixel.

    Pictures uint8 [N, 3, H, W] -> logits [N, classes, H, W].
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(5, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        return self.classify(pixel_inputs(pictures))

    def classify(self, inputs: Tensor) -> Tensor:
        """Colour and position [N, 5, H, W] -> logits."""
        logits: Tensor = self.layers(inputs)
        return logits


def pixel_inputs(pictures: Tensor) -> Tensor:
    """Colour and position of every pixel, all in [-1, 1]: [N, 5, H, W]."""
    count, _, height, width = pictures.shape
    y = torch.linspace(-1, 1, height, device=pictures.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=pictures.device).view(1, 1, 1, -1)
    place = torch.cat([x.expand(count, 1, height, width), y.expand(count, 1, height, width)], 1)
    return torch.cat([pictures.float() / 127.5 - 1, place], 1)


def fit_colour_only(
    pictures: Tensor, masks: Tensor, classes: int, ignore_index: int, seed: int, steps: int = 600
) -> ColourOnly:
    """Fit the baseline to the annotated pictures; seconds on a CPU at any resolution."""
    seed_everything(seed)
    model = ColourOnly(classes).to(pictures.device)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    inputs = pixel_inputs(pictures).transpose(0, 1).flatten(1)[None, :, None]  # [1, 5, 1, pixels]
    truth = masks.long().view(1, 1, -1)
    for _ in range(steps):
        seen, told = inputs, truth
        if inputs.shape[-1] > _PIXELS:
            chosen = torch.randint(inputs.shape[-1], (_PIXELS,), device=inputs.device)
            seen, told = inputs[..., chosen], truth[..., chosen]
        loss = F.cross_entropy(model.classify(seen), told, ignore_index=ignore_index)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval().requires_grad_(False)
