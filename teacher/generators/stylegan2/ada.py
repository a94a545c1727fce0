"""Adaptive discriminator augmentation (ADA), for generators trained on few photographs.

After Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020), appendix B:
pixel blitting, geometry and colour, each transformation with probability p, on all images that the
discriminator sees; p follows the share of real images that it classifies as real. Unlike in the paper,
images are resampled bilinearly and mirrored at the border, without wavelet filters.

Shapes: B = images, H, W = pixels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Adaptation:
    """The probability p, adapted so that the discriminator does not learn the images by heart.

    Args:
        target: mean sign of the discriminator's logits on real images that is aimed at.
        images: real images in which p can go from zero to one.
        p: the probability at the beginning.
    """

    def __init__(self, target: float, images: float, p: float = 0.0) -> None:
        self.target, self.images, self.p = target, images, p

    def follow(self, sign: float, seen: int) -> None:
        """Adapt p to the mean sign of the logits of `seen` real images."""
        step = seen / self.images
        self.p = min(max(self.p + math.copysign(step, sign - self.target), 0.0), 1.0)


def augment(images: Tensor, p: float) -> Tensor:
    """Transform images [B, 3, H, W] in [-1, 1], each independently; draws from the global random state."""
    if p <= 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # coordinates need full precision
        return _recolour(_move(images.float(), p), p)


def _when(p: float, batch: int, value: Tensor, otherwise: float) -> Tensor:
    """`value` [B] with probability p, otherwise the value that changes nothing."""
    chosen = torch.rand(batch, device=value.device) < p
    return torch.where(chosen, value, torch.full_like(value, otherwise))


def _move(images: Tensor, p: float) -> Tensor:
    """Pixel blitting and geometry as one map from output to input coordinates in [-1, 1]."""
    batch, _, height, width = images.shape
    device = images.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(batch, device=device) * (high - low) + low

    def normal(deviation: float) -> Tensor:
        return torch.randn(batch, device=device) * deviation

    # Blitting: whole pixels and right angles, so that nothing is resampled.
    flip = _when(p, batch, uniform(0, 1).round() * 2 - 1, 1.0)
    quarter = _when(p, batch, torch.randint(4, (batch,), device=device) * (math.pi / 2), 0.0)
    moved_x = _when(p, batch, (uniform(-0.125, 0.125) * width).round() * 2 / width, 0.0)
    moved_y = _when(p, batch, (uniform(-0.125, 0.125) * height).round() * 2 / height, 0.0)
    one = torch.ones(batch, device=device)
    maps = [_scaling(flip, one), _rotation(quarter), _translation(moved_x, moved_y)]

    # Geometry.
    size = _when(p, batch, torch.exp2(normal(0.2)), 1.0)
    p_turn = 1 - math.sqrt(1 - p)  # at least one of two rotations then has probability p
    first = _when(p_turn, batch, uniform(-math.pi, math.pi), 0.0)
    stretch = _when(p, batch, torch.exp2(normal(0.2)), 1.0)
    second = _when(p_turn, batch, uniform(-math.pi, math.pi), 0.0)
    slid = _when(p, batch, torch.ones(batch, device=device), 0.0)
    maps += [_scaling(size, size), _rotation(first), _scaling(stretch, 1 / stretch)]
    maps += [_rotation(second), _translation(slid * normal(0.25), slid * normal(0.25))]

    matrix = torch.eye(3, device=device).expand(batch, 3, 3)
    for step in maps:
        matrix = matrix @ step
    grid = F.affine_grid(matrix[:, :2], list(images.shape), align_corners=False)
    moved: Tensor = _Resample.apply(images, grid)
    return moved


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


class _Resample(torch.autograd.Function):
    """`grid_sample` whose gradient can be derived once more, as R1 asks; PyTorch's own cannot.

    The result is linear in the images, so that each of the two maps below is the other's gradient.
    """

    @staticmethod
    def forward(context: Any, images: Tensor, grid: Tensor) -> Tensor:
        context.save_for_backward(grid)
        context.shape = images.shape
        return _sample(images, grid)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = context.saved_tensors
        return _Spread.apply(gradient, grid, context.shape), None


class _Spread(torch.autograd.Function):
    """The transposed map: every value of the output is added to the pixels that it was sampled from."""

    @staticmethod
    def forward(context: Any, values: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(grid)
        bilinear, reflection = 0, 2
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            values, values.new_zeros(shape), grid, bilinear, reflection, False, [True, False]
        )[0]
        return spread

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = context.saved_tensors
        return _Resample.apply(gradient, grid), None, None


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """Rows of numbers and [B] tensors -> [B, n, n]."""
    filled = [
        torch.stack(
            [torch.as_tensor(cell, device=like.device).expand(len(like)) for cell in row], 1
        )
        for row in rows
    ]
    return torch.stack(filled, 1)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1 / x, 0.0, 0.0], [0.0, 1 / y, 0.0], [0.0, 0.0, 1.0]], x)


def _rotation(angle: Tensor) -> Tensor:
    c, s = angle.cos(), angle.sin()
    return _matrix([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], angle)


def _translation(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]], x)


def _recolour(images: Tensor, p: float) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation as one affine map of RGB."""
    batch, device = len(images), images.device
    grey = torch.full((3, 1), 1 / math.sqrt(3), device=device)  # the axis of luma
    luma = (grey @ grey.t()).expand(batch, 3, 3)
    eye = torch.eye(3, device=device)

    def each(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1)

    def drawn(deviation: float) -> Tensor:
        return torch.randn(batch, device=device) * deviation

    brightness = each(_when(p, batch, drawn(0.2), 0.0))
    contrast = each(_when(p, batch, torch.exp2(drawn(0.5)), 1.0))
    flipped = each(_when(p, batch, torch.rand(batch, device=device).round(), 0.0))
    angle = each(_when(p, batch, (torch.rand(batch, device=device) * 2 - 1) * math.pi, 0.0))
    saturation = each(_when(p, batch, torch.exp2(drawn(1.0)), 1.0))

    # Rotation about the luma axis (Rodrigues); the cross product with (1, 1, 1) / sqrt(3).
    k = 1 / math.sqrt(3)
    cross = torch.tensor([[0.0, -k, k], [k, 0.0, -k], [-k, k, 0.0]], device=device)
    hue = eye * angle.cos() + cross * angle.sin() + luma * (1 - angle.cos())
    colour = (luma + (eye - luma) * saturation) @ hue @ (eye - 2 * luma * flipped) * contrast
    shifted = colour @ images.flatten(2) + (colour @ brightness.expand(-1, 3, 1))
    return shifted.view_as(images)
