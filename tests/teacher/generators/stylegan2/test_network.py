"""The networks, against the equations of their papers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from teacher.generators.stylegan2.discriminator import Discriminator, EqualConv
from teacher.generators.stylegan2.layers import (
    ModulatedConv,
    SynthesisLayer,
    UpsampleRGB,
    low_pass_kernel,
)
from teacher.generators.stylegan2.network import Generator, GeneratorConfig

CONFIG = GeneratorConfig(channels=(12, 10, 8), latent_size=6, mapping_layers=3)


def blur(x: Tensor, padding: tuple[int, int, int, int], gain: float = 1.0) -> Tensor:
    """The low-pass filter as its own dense convolution."""
    taps = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype)
    kernel = (torch.outer(taps, taps) * gain / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, padding), kernel, groups=x.shape[1])


def test_modulated_convolution_is_the_papers() -> None:
    """Equations 1-3: weights scaled by the style, divided by their norm, applied per sample."""
    torch.manual_seed(0)
    conv = ModulatedConv(5, 4, 3, 6, up=False, demodulate=True).double()
    x, w = torch.randn(3, 5, 8, 8).double(), torch.randn(3, 6).double()
    style = conv.affine(w)
    weights = conv.weight * conv.scale * style[:, None, :, None, None]
    weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    expected = torch.cat([F.conv2d(x[[i]], weights[i], padding=1) for i in range(3)])
    assert torch.allclose(conv(x, w), expected, atol=1e-12)


def test_upsampling_convolution_is_transposed_then_blurred() -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(5, 4, 3, 6, up=True, demodulate=False).double()
    x, w = torch.randn(2, 5, 7, 7).double(), torch.randn(2, 6).double()
    scaled = x * conv.affine(w)[:, :, None, None]
    kernel = (conv.weight * conv.scale).transpose(0, 1)
    expected = blur(F.conv_transpose2d(scaled, kernel, stride=2), (1, 1, 1, 1), gain=4.0)
    assert conv(x, w).shape == (2, 4, 14, 14)
    assert torch.allclose(conv(x, w), expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 2), (1, 1)])
def test_downsampling_convolution_is_blurred_then_strided(kernel: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = EqualConv(3, 4, kernel, down=True, bias=False).double()
    x = torch.randn(2, 3, 8, 8).double()
    smooth = blur(x, (padding,) * 4)
    expected = F.conv2d(smooth, conv.weight * conv.scale, stride=2)
    assert conv(x).shape == (2, 4, 4, 4)
    assert torch.allclose(conv(x), expected, atol=1e-12)


def test_image_upsampling_inserts_zeros_then_blurs() -> None:
    x = torch.randn(2, 3, 5, 5)
    spread = torch.zeros(2, 3, 10, 10)
    spread[..., ::2, ::2] = x
    assert torch.allclose(UpsampleRGB()(x), blur(spread, (2, 1, 2, 1), gain=4.0), atol=1e-6)


TAPS: dict[int, list[float]] = {
    n: torch.rand(n, generator=torch.Generator().manual_seed(n)).tolist() for n in range(1, 10)
}


def upfirdn(x: Tensor, taps: list[float], up: int, before: int, after: int, gain: float) -> Tensor:
    """Zeros between the places, edges added or cut off, and a true convolution, as the originals say it."""
    n, side = len(taps), x.shape[-1]
    wide = x.new_zeros(*x.shape[:2], side * up, side * up)
    wide[..., ::up, ::up] = x
    wide = F.pad(wide, (before, after, before, after))
    row = torch.tensor(taps, dtype=x.dtype)
    row = (row / row.sum()).flip(0)
    kernel = (torch.outer(row, row) * gain).expand(x.shape[1], 1, n, n)
    return F.conv2d(wide, kernel, groups=x.shape[1])


@pytest.mark.parametrize("n", TAPS)
def test_filters_of_every_length_leave_the_image_in_its_place(n: int) -> None:
    """The paddings of upfirdn2d and conv2d_resample, for a 3x3 convolution and for the image."""
    taps, x = TAPS[n], torch.randn(2, 3, 6, 6).double()
    upsample = UpsampleRGB(taps).double()
    expected = upfirdn(x, taps, 2, (n + 1) // 2, (n - 2) // 2, 4.0)
    assert expected.shape[-1] == 12
    assert torch.allclose(upsample(x), expected, atol=1e-6)

    conv = ModulatedConv(3, 4, 3, 6, up=True, demodulate=False, taps=taps).double()
    w = torch.randn(2, 6).double()
    scaled = x * conv.affine(w)[:, :, None, None]
    wide = F.conv_transpose2d(scaled, (conv.weight * conv.scale).transpose(0, 1), stride=2)
    expected = upfirdn(wide, taps, 1, 1 + (n + 1) // 2 - 2, 1 + (n - 2) // 2 - 1, 4.0)
    assert expected.shape[-1] == 12
    assert torch.allclose(conv(x, w), expected, atol=1e-6)


def test_a_constant_survives_the_filters() -> None:
    assert low_pass_kernel(2).sum((1, 2, 3)).tolist() == pytest.approx([1, 1])
    inner = UpsampleRGB()(torch.ones(1, 3, 8, 8))[..., 2:-2, 2:-2]
    assert torch.allclose(inner, torch.ones_like(inner))


def test_names_shapes_and_order_of_features() -> None:
    generator = Generator(CONFIG)
    w = generator.mapping(torch.randn(2, 6))
    image, features = generator.synthesis(w, generator.constant_noise())
    assert image.shape == (2, 3, 16, 16)
    assert list(generator.features) == ["4.0", "8.0", "8.1", "16.0", "16.1"]
    sizes = [(f.shape[1], f.shape[2]) for f in features]
    assert sizes == list(generator.features.values())
    assert [channels for channels, _ in sizes] == [12, 10, 10, 8, 8]
    assert [f.shape[2:] for f in features] == [torch.Size(s) for s in generator.noise_shapes]
    assert generator.style_count == 6  # 2 log2(16) - 2


def test_truncation_goes_from_the_mean_to_the_sample() -> None:
    generator = Generator(CONFIG)
    generator.w_mean.normal_()
    w = generator.mapping(torch.randn(4, 6))
    assert torch.equal(generator.truncate(w, 1.0), w)
    assert torch.equal(generator.truncate(w, 0.0), generator.w_mean.expand(4, -1))
    assert torch.allclose(generator.truncate(w, 0.5), (w + generator.w_mean) / 2)


def test_styles_per_layer_equal_one_style_for_all() -> None:
    generator = Generator(CONFIG)
    w, noise = torch.randn(2, 6), generator.random_noise(2)
    one, _ = generator.synthesis(w, noise)
    many, _ = generator.synthesis(w[:, None].expand(-1, 6, -1), noise)
    assert torch.equal(one, many)


def test_noise_acts_by_its_strength() -> None:
    generator = Generator(CONFIG)
    w = torch.randn(1, 6)
    still, _ = generator.synthesis(w, generator.random_noise(1))
    assert torch.equal(still, generator.synthesis(w, generator.random_noise(1))[0])
    for layer in generator.layers:
        assert isinstance(layer, SynthesisLayer)
        layer.noise_strength.data.fill_(1.0)
    assert not torch.equal(still, generator.synthesis(w, generator.random_noise(1))[0])


def test_discriminator_compares_real_with_real_and_generated_with_generated() -> None:
    """The spread is taken over four neighbours, so a batch may be scored whole or in fours."""
    torch.manual_seed(0)
    discriminator = Discriminator((8, 8, 8))
    images = torch.randn(8, 3, 16, 16)
    whole = discriminator(images)
    assert whole.shape == (8,)
    assert torch.allclose(whole[4:], discriminator(images[4:]), atol=1e-5)


def test_second_derivative_exists() -> None:
    discriminator = Discriminator((4, 4, 4))
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    slope.square().sum().backward()
    slope_of_weights = discriminator.from_rgb.weight.grad
    assert slope_of_weights is not None and slope_of_weights.abs().sum() > 0
