"""Features of the candidates: for every sample all feature maps in one small pack, kept in memory.

Where memory allows, a pack holds the feature maps as they are, in half precision. Where it does not,
their channels are projected onto fewer ones, the map's main directions (principal components), as many
for each map as its share of the memory allows.

Shapes: C = channels of a map, r = its side, R = side of the image, P = pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from teacher.generators.base import FeatureMap

_HALF = 2  # bytes
_FEWEST = 4  # channels that a projected map keeps at least


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
        return f"The features are too large for the memory: {every} channels are projected onto {kept}."

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
    """How the maps of so many samples fit into the memory.

    Args:
        features: maps [N, C, r, r] of the first samples, of which the main directions are found.
        maps: all maps of the generator.
        memory: bytes for all packs.
    """
    scales = [f.float().std((0, 2, 3)).clamp_min(1e-6) for f in features]
    sizes = [channels * side**2 for channels, side in maps.values()]
    share = memory / (samples * _HALF * sum(sizes))
    if share >= 1:
        return Packing(scales, [None] * len(scales))
    # Small maps are kept whole as long as they take less than their part.
    kept = _fair_channels(maps, memory // (samples * _HALF))
    bases = [
        None if count == len(scale) else _main_directions(feature, scale, count)
        for feature, scale, count in zip(features, scales, kept, strict=True)
    ]
    return Packing(scales, bases)


def _fair_channels(maps: Mapping[str, FeatureMap], floats: int) -> list[int]:
    """Channels of each map, so that a sample's maps have so many numbers and none more than its part."""
    kept = [0] * len(maps)
    left, open_maps = floats, len(maps)
    for i, (channels, side) in sorted(
        enumerate(maps.values()), key=lambda m: m[1][0] * m[1][1] ** 2
    ):
        kept[i] = max(min(channels, _FEWEST), min(channels, left // open_maps // side**2))
        left, open_maps = max(0, left - kept[i] * side**2), open_maps - 1
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
