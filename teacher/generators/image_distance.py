"""How far images are from each other: pixel by pixel at several sizes, and in a network's feature maps.

Shapes: B = images, R = their side.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FeatureMaps = Callable[[Tensor], Sequence[Tensor]]  # images [B, 3, R, R] in [0, 255] -> maps

_SIZES = (1, 2, 4, 8)  # images are compared at full size, half, ...


class ImageDistance:
    """Distance of images from targets, both [B, 3, R, R] in [-1, 1].

    Args:
        maps: of the network in which the perceptual distance is taken; none for no such distance.
        perceptual_weight: of that distance beside the one of pixels.
    """

    def __init__(self, maps: FeatureMaps | None, perceptual_weight: float) -> None:
        self.maps, self.perceptual_weight = maps, perceptual_weight

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images, every pixel of unit length; computed once for targets."""
        if self.maps is None or not self.perceptual_weight:
            return []
        return [F.normalize(m.float(), dim=1) for m in self.maps((images + 1) * 127.5)]

    def __call__(
        self, images: Tensor, targets: Tensor, target_features: Sequence[Tensor]
    ) -> Tensor:
        """Mean absolute difference at all sizes and the perceptual distance, [B].

        The latter is that of Zhang et al., "The Unreasonable Effectiveness of Deep Features" (2018), with
        equal weights for all channels.
        """
        far = multiscale_l1(images, targets)
        found = self.features(images) if target_features else ()
        for mine, true in zip(found, target_features, strict=True):
            far = far + self.perceptual_weight * (mine - true).square().sum(1).mean((1, 2))
        return far


def multiscale_l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of images [B, 3, R, R], added up over several sizes, [B]."""
    far = torch.zeros(len(images), device=images.device)
    for size in _SIZES:
        difference = F.avg_pool2d(images, size) - F.avg_pool2d(targets, size)
        far = far + difference.abs().mean((1, 2, 3))
    return far


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Of images [B, 3, R, R], nominally in [-1, 1], against uint8 targets; in dB, [B]."""
    true = targets.float() / 127.5 - 1
    error = (images.clamp(-1, 1) - true).square().mean((1, 2, 3)) / 4  # as on [0, 1]
    return -10 * error.clamp_min(1e-10).log10()
