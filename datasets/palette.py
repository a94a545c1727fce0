"""Images that take on the colours of others, so that what is learned of them holds in the others' light.

Mean and covariance of the colours are carried over by the linear map that moves them least: F. Pitié and
A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer", 2007.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MOST = 2000  # images whose colours are known
_PIXELS = 1024  # about so many of each are looked at
_FLAT = 1.0  # variance, of 255 squared, that every direction of colour has at least

Floats = npt.NDArray[np.float64]


class Palette:
    """Colours of many images, to be lent to others.

    Args:
        images: uint8 [N, 3, H, W], in memory or in a file.
        share: probability that an image takes them on.
    """

    def __init__(self, images: npt.NDArray[np.uint8], share: float) -> None:
        self.share = share
        some = np.linspace(0, len(images) - 1, min(len(images), _MOST)).round().astype(int)
        known = [_colours(np.asarray(images[i])) for i in some]
        self.means = np.stack([mean for mean, _ in known])
        self.covariances = np.stack([covariance for _, covariance in known])

    def lend(self, image: Tensor, seed: int) -> Tensor:
        """An image uint8 [3, H, W] in the colours of another, or as it is; the seed alone decides."""
        random = np.random.default_rng(seed)
        if random.random() >= self.share:
            return image
        chosen = random.integers(len(self.means))
        pixels = image.numpy()
        mean, covariance = _colours(pixels)
        root, back = _power(covariance, 0.5), _power(covariance, -0.5)
        between = back @ _power(root @ self.covariances[chosen] @ root, 0.5) @ back
        moved = np.tensordot(between, pixels - mean[:, None, None], 1)
        moved += self.means[chosen][:, None, None]
        return torch.from_numpy(moved.round().clip(0, 255).astype(np.uint8))


def _colours(pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Mean [3] and covariance [3, 3] of the colours of an image [3, H, W]."""
    step = max(1, round((pixels.shape[1] * pixels.shape[2] / _PIXELS) ** 0.5))
    flat = pixels[:, ::step, ::step].reshape(3, -1).astype(np.float64)
    return flat.mean(1), np.cov(flat) + _FLAT * np.eye(3)


def _power(matrix: Floats, exponent: float) -> Floats:
    """Power of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values.clip(1e-6) ** exponent) @ vectors.T
