"""Choose the samples that are most worth annotating.

Shapes: N = samples, P = pixels of a sample at a coarse size, C = features of a pixel, K = parts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from teacher.generators.base import FeatureGenerator
from teacher.generators.sampling import LatentSource, chunks

_COARSEST = 16  # px; smaller feature maps do not tell parts apart
_SIDE = 32  # px, at which samples are looked at
_PROJECTED = 128  # dimensions that stand for thousands of channels
_CLUSTERED = 20_000  # pixels, of which parts are found
_MEANS = 0.25  # what mean features count beside the distribution of parts

# Of drawn samples: images [B, 3, R, R] and their feature maps -> a score each, [B].
SampleScore = Callable[[Tensor, Sequence[Tensor]], Tensor]


class Look(NamedTuple):
    """What a sample looks like.

    Attributes:
        shares: of each part in its pixels, [K].
        mean: of its pixels' features, [C].
    """

    shares: Tensor
    mean: Tensor


class Parts:
    """Parts that nobody named yet: clusters of pixels by their features.

    Args:
        pixels: features of the pixels of some samples, [N, P, C].
        count: K.
    """

    def __init__(self, pixels: Tensor, count: int = 24) -> None:
        self._mean, self._deviation = pixels.mean((0, 1)), pixels.std((0, 1)) + 1e-6
        every, state = pixels.flatten(0, 1), torch.Generator().manual_seed(0)
        some = torch.randperm(len(every), generator=state)[:_CLUSTERED]
        self._centres = _centres(self._standardised(every[some.to(pixels.device)]), count)

    def look_at(self, pixels: Tensor) -> Look:
        """What a sample looks like, by the features of its pixels [P, C]."""
        pixels = self._standardised(pixels)
        nearest = torch.cdist(pixels, self._centres).argmin(1)
        counts = torch.bincount(nearest, minlength=len(self._centres))
        return Look(counts / len(pixels), pixels.mean(0))

    def _standardised(self, pixels: Tensor) -> Tensor:
        return (pixels - self._mean) / self._deviation


class Choice:
    """Tells which sample is most worth annotating beside others.

    Such a sample shows every part, as much of it as samples do on the average, and lies near to many others
    in the distribution of parts, of which none that was chosen is near.

    Args:
        looks: of the samples to choose from.
    """

    def __init__(self, looks: Sequence[Look]) -> None:
        shares, means = (torch.stack(tensors) for tensors in zip(*looks, strict=True))
        self._in_sight = (shares / shares.mean(0).clamp_min(1e-6)).clamp(max=1).mean(1).cpu()
        means = means / means.std().clamp_min(1e-6) / means.shape[1] ** 0.5
        profiles = torch.cat([shares.sqrt(), _MEANS * means], 1)
        distance = torch.cdist(profiles, profiles)
        self._distance = (distance / distance.mean().clamp_min(1e-6)).cpu()

    def worth(self, chosen: Sequence[int], weights: Tensor | None = None) -> Tensor:
        """What each sample is worth, [N].

        Args:
            chosen: samples that are chosen already.
            weights: of the samples that should have a near one, [N]; none for all alike.
        """
        nearest = self._distance[list(chosen)].amin(0) if chosen else torch.tensor(float("inf"))
        reach = torch.minimum(nearest, self._distance)
        if weights is not None:
            reach = reach * (weights / weights.mean().clamp_min(1e-6))
        return self._in_sight - reach.mean(1)


@torch.no_grad()
def choose_samples(
    generator: FeatureGenerator,
    source: LatentSource,
    numbers: Sequence[int],
    count: int,
    parts: int = 24,
) -> list[int]:
    """Pick the samples that are most worth annotating, see `Choice`, one after the other.

    Args:
        source, numbers: the samples to choose from.
        count: how many to choose.
        parts: number of clusters.

    Returns:
        Numbers of the chosen samples, the most valuable first.
    """
    coarse = PixelFeatures(generator.resolution)
    chunked = tqdm([*chunks(generator, numbers)], desc="features", leave=False)
    pixels, done = torch.empty(0), 0
    for chunk in chunked:
        row = coarse(generator.synthesise(source(chunk))[1])
        if not done:
            pixels = row.new_empty(len(numbers), *row.shape[1:])
        pixels[done : done + len(chunk)] = row
        done += len(chunk)
    found = Parts(pixels, parts)
    choice = Choice([found.look_at(sample) for sample in pixels])
    chosen: list[int] = []
    for _ in range(count):
        worth = choice.worth(chosen)
        worth[chosen] = -float("inf")
        chosen.append(int(worth.argmax()))
    return [numbers[i] for i in chosen]


@torch.no_grad()
def highest_scores(
    generator: FeatureGenerator,
    source: LatentSource,
    numbers: Sequence[int],
    score: SampleScore,
    count: int,
) -> list[int]:
    """Numbers of the `count` samples of highest score, in the order of `numbers`."""
    chunked = tqdm([*chunks(generator, numbers)], desc="scores", leave=False)
    scores = torch.cat([score(*generator.synthesise(source(chunk))) for chunk in chunked])
    best = scores.topk(min(count, len(numbers))).indices
    return [numbers[i] for i in sorted(best.tolist())]


class PixelFeatures:
    """Hypercolumns of samples at a coarse size; wide ones are projected at random, which keeps distances.

    Args:
        resolution: side of the samples.
    """

    def __init__(self, resolution: int) -> None:
        self._side, self._resolution = min(_SIDE, resolution), resolution
        self._projection: Tensor | None = None

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps [N, C, r, r] of samples -> [N, P, C]."""
        fine = [f for f in features if f.shape[-1] >= min(_COARSEST, self._resolution)]
        sized = [F.interpolate(f.float(), (self._side,) * 2, mode="bilinear") for f in fine]
        pixels = torch.cat(sized, 1).permute(0, 2, 3, 1).flatten(1, 2)
        if pixels.shape[2] <= 2 * _PROJECTED:
            return pixels
        if self._projection is None:
            state = torch.Generator().manual_seed(0)
            random = torch.randn(pixels.shape[2], _PROJECTED, generator=state)
            scale = pixels.std((0, 1)) + 1e-6  # of the first samples: it must not change
            self._projection = random.to(pixels.device) / scale[:, None]
        return pixels @ self._projection


def _centres(points: Tensor, count: int, rounds: int = 12) -> Tensor:
    """Those of k-means. Deterministic."""
    centres = points[:count].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        for k in range(count):
            members = points[nearest == k]
            if len(members):
                centres[k] = members.mean(0)
    return centres
