"""The convolution over all feature maps at once, against the dense one."""

import pytest
import torch
import torch.nn.functional as F

from teacher import hypercolumn
from teacher.hypercolumn import HypercolumnConv, Interpolation, upsample

SIDES = [(4, 8, 8, 16), (3, 5, 7, 16), (16,), (1, 16, 16), (5, 32, 20), (16, 8, 16, 8)]


@pytest.mark.parametrize("strip", [2**20, 3000, 1])  # whole maps, some rows, a row at a time
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("sides", SIDES)
def test_equals_the_convolution_over_the_concatenation(
    mode: Interpolation, sides: tuple[int, ...], strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercolumn, "_STRIP", strip)
    torch.manual_seed(0)
    channels = [3 + i for i in range(len(sides))]
    layer = HypercolumnConv(channels, 40, 16, mode).double()
    features = [torch.randn(2, c, s, s).double() for c, s in zip(channels, sides, strict=True)]
    dense_features = [f.clone().requires_grad_() for f in features]
    features = [f.requires_grad_() for f in features]

    fast = layer(features)
    dense = F.conv2d(upsample(dense_features, 16, mode), layer.weight, layer.bias, padding=1)
    assert torch.allclose(fast, dense, atol=1e-10)
    assert fast.is_contiguous(memory_format=torch.channels_last)

    upstream = torch.randn_like(fast)
    (weight_fast,) = torch.autograd.grad(fast, layer.weight, upstream, retain_graph=True)
    (weight_dense,) = torch.autograd.grad(dense, layer.weight, upstream, retain_graph=True)
    assert torch.allclose(weight_fast, weight_dense, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(fast, features, upstream),
        torch.autograd.grad(dense, dense_features, upstream),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


def test_weights_are_those_of_an_ordinary_convolution() -> None:
    layer, ordinary = HypercolumnConv([3, 4], 5, 8), torch.nn.Conv2d(7, 5, 3, padding=1)
    ordinary.load_state_dict(layer.state_dict())
    features = [torch.randn(1, 3, 4, 4), torch.randn(1, 4, 8, 8)]
    expected = ordinary(upsample(features, 8, "nearest"))
    assert torch.allclose(layer(features), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_half_precision_stays_near_the_dense_path_in_full(mode: Interpolation) -> None:
    torch.manual_seed(0)
    layer = HypercolumnConv([16, 8, 8], 24, 32, mode)
    features = [torch.randn(2, c, s, s) for c, s in ((16, 8), (8, 16), (8, 32))]
    dense = F.conv2d(upsample(features, 32, mode), layer.weight, layer.bias, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = layer(features)
        fast.float().square().mean().backward()
    assert fast.dtype == torch.bfloat16
    assert (fast.float() - dense).abs().mean() < 0.01 * dense.abs().mean()
    assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()
