"""Choose the samples that are most worth annotating."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from teacher.generators.base import FeatureGenerator
from teacher.generators.sampling import LatentSource, chunks

_COARSEST = 16  # px; smaller feature maps do not tell parts apart
_PROJECTED = 128  # dimensions that stand for thousands of channels

# Of drawn samples: images [B, 3, R, R] and their feature maps -> a score each, [B].
SampleScore = Callable[[Tensor, Sequence[Tensor]], Tensor]


@torch.no_grad()
def choose_samples(
    generator: FeatureGenerator,
    source: LatentSource,
    numbers: Sequence[int],
    count: int,
    parts: int = 24,
) -> list[int]:
    """Pick the samples that are most worth annotating.

    The pixels of all samples are clustered by their features: clusters are parts that nobody named
    yet. A sample shows a part as well as its share of that part compares with the mean share. Chosen
    greedily are the samples that lie near many others in the distribution of parts and that show
    every part.

    Args:
        source, numbers: the samples to choose from.
        count: how many to choose.
        parts: number of clusters.

    Returns:
        Numbers of the chosen samples, the most valuable first.
    """
    pixels = _pixel_features(generator, source, numbers)
    pixels = pixels.sub_(pixels.mean((0, 1))).div_(pixels.std((0, 1)) + 1e-6)

    assigned = _cluster(pixels.flatten(0, 1), parts).view(len(numbers), -1)
    shares = F.one_hot(assigned, parts).float().mean(1)  # [N, parts]
    relative = shares / shares.mean(0).clamp_min(1e-6)
    in_sight = relative.clamp(max=1).mean(1)
    profile = torch.cat([shares.sqrt(), _coarse(pixels)], 1)
    distance = torch.cdist(profile, profile)
    distance = distance / distance.mean()

    chosen: list[int] = []
    nearest = torch.full((len(numbers),), float("inf"))
    for _ in range(count):
        reach = torch.minimum(nearest, distance.cpu()).mean(1)  # mean distance if i were added
        score = in_sight.cpu() - reach
        score[chosen] = -float("inf")
        chosen.append(int(score.argmax()))
        nearest = torch.minimum(nearest, distance[chosen[-1]].cpu())
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


def _pixel_features(
    generator: FeatureGenerator, source: LatentSource, numbers: Sequence[int]
) -> Tensor:
    """Features of all pixels at 32 px, [N, P, C]; wide ones projected at random, which keeps distances."""
    device, size = generator.device, min(32, generator.resolution)
    channels = sum(count for count, side in generator.features.values() if side >= _COARSEST)
    projection = None
    if channels > 2 * _PROJECTED:
        state = torch.Generator().manual_seed(0)
        projection = torch.randn(channels, _PROJECTED, generator=state).to(device)
    scale: Tensor | None = None
    width = channels if projection is None else _PROJECTED
    pixels = torch.empty(len(numbers), size * size, width, device=device)
    done = 0
    for chunk in tqdm([*chunks(generator, numbers)], desc="features", leave=False):
        row = _columns(generator, source, chunk, size)
        if projection is not None:
            scale = row.std((0, 1)) + 1e-6 if scale is None else scale
            row = row / scale @ projection
        pixels[done : done + len(chunk)] = row
        done += len(chunk)
    return pixels


def _columns(
    generator: FeatureGenerator, source: LatentSource, numbers: Sequence[int], size: int
) -> Tensor:
    """Hypercolumns of samples at a coarse size, [B, size * size, C]."""
    features = [f for f in generator.synthesise(source(numbers))[1] if f.shape[-1] >= _COARSEST]
    resized = [F.interpolate(f, size=(size, size), mode="bilinear") for f in features]
    return torch.cat(resized, 1).permute(0, 2, 3, 1).flatten(1, 2)


def _coarse(pixels: Tensor) -> Tensor:
    """What a sample looks like at large: its mean features, scaled to weigh as its parts do."""
    mean = pixels.mean(1)
    return mean / mean.std() / mean.shape[1] ** 0.5 * 0.25


def _cluster(points: Tensor, count: int, rounds: int = 12) -> Tensor:
    """k-means; returns the cluster of every point. Deterministic."""
    state = torch.Generator().manual_seed(0)
    subset = points[torch.randperm(len(points), generator=state)[:20_000].to(points.device)]
    centres = subset[:count].clone()
    for _ in range(rounds):
        nearest = torch.cdist(subset, centres).argmin(1)
        for k in range(count):
            members = subset[nearest == k]
            if len(members):
                centres[k] = members.mean(0)
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in points.split(65_536)])
