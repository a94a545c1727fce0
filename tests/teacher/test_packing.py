"""Features of many samples in little memory."""

import torch
import torch.nn.functional as F
from torch import Tensor

from teacher.generators.base import FeatureMap
from teacher.packing import at_pixels, plan_packing

MAPS = {"4.0": FeatureMap(24, 4), "8.0": FeatureMap(24, 8), "16.0": FeatureMap(12, 16)}
SIDE, SAMPLES = 16, 50


def features(count: int, rank: int = 3) -> list[Tensor]:
    """Maps whose channels are mixtures of a few, at very different scales."""
    made = []
    for channels, side in MAPS.values():
        state = torch.Generator().manual_seed(side)
        mixture = torch.randn(rank, channels, generator=state) * 10 ** torch.linspace(
            -2, 2, channels
        )
        few = torch.randn(count, rank, side, side, generator=torch.Generator().manual_seed(count))
        made.append(torch.einsum("nrhw,rc->nchw", few, mixture))
    return made


def size_of(pack: list[Tensor]) -> int:
    return sum(2 * m[0].numel() for m in pack)


def test_all_channels_are_kept_where_there_is_memory() -> None:
    packing = plan_packing(features(8), MAPS, SAMPLES, SAMPLES * 2 * 6000)
    assert packing.channels == [24, 24, 12] and packing.told.startswith("All 60 feature channels")
    packed = packing.pack(features(3))
    for feature, small in zip(features(3), packed, strict=True):
        assert small.dtype == torch.half and small.shape == feature.shape
        assert torch.isfinite(small).all() and 0.5 < float(small.float().std()) < 2


def test_what_does_not_fit_is_projected_and_keeps_what_varies() -> None:
    memory = SAMPLES * 2 * 2400
    packing = plan_packing(features(8), MAPS, SAMPLES, memory)
    assert sum(packing.channels) < 60 and "projected onto" in packing.told
    packed = packing.pack(features(3))
    assert SAMPLES * size_of(packed) <= memory
    # Three directions are all there is, so that nothing is lost: distances between pixels stay.
    whole = plan_packing(features(8), MAPS, SAMPLES, 2**40).pack(features(3))
    for small, full in zip(packed, whole, strict=True):
        a, b = (x.float().permute(0, 2, 3, 1).flatten(0, 2) for x in (small, full))
        near, far = torch.cdist(a, a), torch.cdist(b, b)
        assert torch.allclose(near, far, rtol=0.02, atol=0.05)


def test_columns_are_those_of_bilinear_upsampling() -> None:
    pack = features(1)
    whole = torch.cat([F.interpolate(f, (SIDE, SIDE), mode="bilinear") for f in pack], 1)
    pixels = torch.tensor([0, 15, 16, 100, 255])
    expected = whole[0].flatten(1)[:, pixels].t()
    assert torch.allclose(at_pixels(pack, pixels, SIDE), expected, rtol=1e-4, atol=1e-3)
