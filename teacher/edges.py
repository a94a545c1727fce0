"""Classes whose borders lie where the image has its own.

Shapes: N = images, C = classes, R = side of the image.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR = 1.0  # standard deviation of the distance, in 64ths of the side
_ALIKE = 0.05  # of the distance of two colours, of which each channel goes from 0 to 1
_REACH = 2  # steps to each side, a 64th each


def smooth_along_edges(probabilities: Tensor, images: Tensor) -> Tensor:
    """The mean of each pixel's probabilities and those of near pixels of the same colour.

    A joint bilateral filter (Petschnigg et al., 2004; Eisemann and Durand, 2004). Where colours differ much
    from pixel to pixel it changes nothing.

    Args:
        probabilities: [N, C, R, R].
        images: 0 to 255, [N, 3, R, R], on the same device.

    Returns:
        [N, C, R, R].
    """
    side = probabilities.shape[-1]
    step = max(1, round(side / 64))
    margin = _REACH * step
    maps = torch.cat([probabilities, images.to(probabilities.dtype) / 255], 1)
    around = F.pad(maps, (margin,) * 4, mode="replicate")
    colours = maps[:, -3:]
    total = torch.zeros_like(probabilities)
    weights = torch.zeros_like(probabilities[:, :1])
    for down, right in itertools.product(range(-_REACH, _REACH + 1), repeat=2):
        y, x = margin + down * step, margin + right * step
        there = around[..., y : y + side, x : x + side]
        unlike = (there[:, -3:] - colours).square().sum(1, keepdim=True)
        far = (down**2 + right**2) / (2 * _NEAR**2)
        weight = torch.exp(-far - unlike / (2 * _ALIKE**2))
        total += weight * there[:, :-3]
        weights += weight
    return total / weights
