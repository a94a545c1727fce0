"""Features of many samples in little memory: for every sample all feature maps in one small pack.

A pack holds the feature maps as they are, in half precision. Where these are more than memory allows, or so
many that learning from them would take long, their channels are projected onto fewer ones, the map's main
directions (principal components).

Shapes: C = channels of a map, r = its side, R = side of the image, P = pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from teacher.generators.base import FeatureGenerator, FeatureMap
from teacher.generators.sampling import LatentSource

_HALF = 2  # bytes
PLANNED_BY = 8  # samples of which the main directions are found
_FEWEST = 4  # channels that a projected map keeps at least
_WIDEST = 1024  # channels of all maps together that a person need not wait for


@dataclass(frozen=True)
class Packing:
    """How feature maps become packs.

    Attributes:
        scales: for each map, what its channels are divided by [C]: they then vary by one.
        bases: for each map, what its channels are multiplied by [C, kept]; none where all are kept.
    """

    scales: list[Tensor]
    bases: list[Tensor | None]

    @property
    def channels(self) -> list[int]:
        """Channels of each map in a pack."""
        return [
            len(scale) if basis is None else basis.shape[1]
            for scale, basis in zip(self.scales, self.bases, strict=True)
        ]

    @property
    def told(self) -> str:
        """How the features are kept, in a sentence."""
        kept, every = sum(self.channels), sum(len(scale) for scale in self.scales)
        if kept == every:
            return f"All {every} feature channels are kept, in half precision."
        return (
            f"{every} feature channels are projected onto {kept}, which are kept in half precision."
        )

    def pack(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps [N, C, r, r] -> what is kept of them, half precision, on the CPU."""
        packed = []
        for feature, scale, basis in zip(features, self.scales, self.bases, strict=True):
            x = feature.float() / scale[:, None, None]
            if basis is not None:
                x = torch.einsum("nchw,ck->nkhw", x, basis)
            packed.append(x.clamp(-60_000, 60_000).half().cpu())
        return packed


def plan_packing(
    features: Sequence[Tensor], maps: Mapping[str, FeatureMap], samples: int, memory: int
) -> Packing:
    """How the maps of so many samples fit into the memory, and are narrow enough to learn from quickly.

    Args:
        features: maps [N, C, r, r] of the first samples, of which the main directions are found.
        maps: all maps of the generator.
        memory: bytes for all packs.
    """
    scales = [f.float().std((0, 2, 3)).clamp_min(1e-6) for f in features]
    narrow = _fair([channels for channels, _ in maps.values()], [1] * len(maps), _WIDEST)
    kept = _fair(narrow, [side**2 for _, side in maps.values()], memory // (samples * _HALF))
    bases = [
        None if count == len(scale) else _main_directions(feature, scale, count)
        for feature, scale, count in zip(features, scales, kept, strict=True)
    ]
    return Packing(scales, bases)


@torch.no_grad()
def packing_of(
    generator: FeatureGenerator, source: LatentSource, samples: int, memory: int = 2**62
) -> Packing:
    """How the maps of a generator's samples are packed, by its first few.

    Args:
        source: gives the samples' latents.
        samples: number of samples.
        memory: bytes for all packs.
    """
    parts = [generator.synthesise(source([n]))[1] for n in range(min(PLANNED_BY, samples))]
    first = [torch.cat(maps) for maps in zip(*parts, strict=True)]
    return plan_packing(first, generator.features, samples, memory)


def _fair(channels: Sequence[int], costs: Sequence[int], total: int) -> list[int]:
    """Channels that each map keeps: all where that costs less than its part of the total, else its part.

    Args:
        channels: of each map.
        costs: of a channel of each map.
    """
    kept, left = [0] * len(channels), total
    cheapest = sorted(range(len(channels)), key=lambda i: channels[i] * costs[i])
    for done, i in enumerate(cheapest):
        part = left // (len(channels) - done) // costs[i]
        kept[i] = min(channels[i], max(_FEWEST, part))
        left = max(0, left - kept[i] * costs[i])
    return kept


def _main_directions(feature: Tensor, scale: Tensor, count: int) -> Tensor:
    """The `count` principal components of a map's pixels, [C, count], each of unit variance."""
    pixels = (feature.float() / scale[:, None, None]).transpose(0, 1).flatten(1).t()
    pixels = pixels - pixels.mean(0)
    values, vectors = torch.linalg.eigh(pixels.t() @ pixels / len(pixels))
    best = values.argsort(descending=True)[:count]
    return vectors[:, best]


def at_pixels(pack: Sequence[Tensor], pixels: Tensor, side: int) -> Tensor:
    """The hypercolumns of some pixels of one sample, [P, sum of channels], float32.

    Args:
        pack: maps [1, C, r, r].
        pixels: numbers of the pixels along the rows, int64 [P].
        side: R.
    """
    return torch.cat([_interpolated(f, pixels, side) for f in pack], 1)


def _interpolated(feature: Tensor, pixels: Tensor, side: int) -> Tensor:
    """A map [1, C, r, r] at some pixels of the image, as bilinear upsampling gives it there, [P, C]."""
    x, y = pixels % side, pixels // side
    places = (torch.stack([x, y], 1).float() + 0.5) * (2 / side) - 1
    sampled = F.grid_sample(
        feature.float(), places[None, None], padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].t()
