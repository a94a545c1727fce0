"""Fréchet distance between two sets of pictures in the features of a network.

After Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017). Any encoder may stand in
for Inception; figures compare only with figures in the features of the same network.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]
Encode = Callable[[Tensor], Tensor]  # uint8 [N, 3, H, W] -> [N, C]


@torch.no_grad()
def feature_moments(encode: Encode, batches: Iterable[Tensor]) -> Moments:
    """Mean [C] and covariance [C, C] of the features of all pictures, float64.

    Args:
        batches: uint8 pictures [N, 3, H, W].
    """
    features = torch.cat([encode(pictures).double().cpu() for pictures in batches])
    return features.mean(0), torch.cov(features.t())


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet distance between two Gaussians given by mean and covariance."""
    (mean_a, cov_a), (mean_b, cov_b) = first, second
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.t()
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    spread = cov_a.trace() + cov_b.trace() - 2 * cross
    return float((mean_a - mean_b).square().sum() + spread)
