"""Fréchet distance between two sets of images in the features of a network.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017), use Inception. Here any encoder can
take its place; distances can only be compared when the encoder is the same.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]  # mean [C] and covariance [C, C], float64
Embed = Callable[[Tensor], Tensor]  # uint8 images [N, 3, H, W] -> feature vectors [N, C]


@torch.no_grad()
def feature_moments(embed: Embed, batches: Iterable[Tensor]) -> Moments:
    """Mean and covariance of the feature vectors of all images.

    Args:
        embed: the encoder.
        batches: uint8 images [N, 3, H, W] each.
    """
    features = torch.cat([embed(images).double().cpu() for images in batches])
    return features.mean(0), torch.cov(features.t())


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet distance between two Gaussians; the FID if the features are Inception's."""
    (mean_a, cov_a), (mean_b, cov_b) = first, second
    # tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A)), which is symmetric: eigenvalues suffice.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.t()
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    spread = cov_a.trace() + cov_b.trace() - 2 * cross
    return float((mean_a - mean_b).square().sum() + spread)
