"""Fréchet distance between two sets of pictures in the features of a trained student.

After Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017), with the encoder of one of
our own segmenters in place of Inception, since its weights need no download. Figures compare only
with figures in the features of the same network.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from student.network import Student

Moments = tuple[Tensor, Tensor]


@torch.no_grad()
def feature_moments(student: Student, batches: Iterable[Tensor]) -> Moments:
    """Mean [C] and covariance [C, C], float64, of the encoder's deepest features, pooled over pixels.

    Args:
        batches: uint8 pictures [N, 3, H, W].
    """
    rows = []
    for pictures in batches:
        x = (pictures.float() - student.mean) / student.std
        rows.append(student.encoder(x)[-1].mean((2, 3)).double())
    features = torch.cat(rows)
    return features.mean(0), torch.cov(features.t())


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet distance between two Gaussians given by mean and covariance."""
    (mean_a, cov_a), (mean_b, cov_b) = first, second
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.t()
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    spread = cov_a.trace() + cov_b.trace() - 2 * cross
    return float((mean_a - mean_b).square().sum() + spread)
