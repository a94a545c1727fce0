"""The StyleGAN2 generator in plain PyTorch operations.

After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
appendix B: modulated and demodulated convolutions, noise inputs, skip connections to RGB, low-pass
filters where the resolution changes, equalised learning rate.

Shapes: B = batch, L = layers that take a style, C = channels, r = a layer's resolution. Feature maps
are named by resolution and position: 4.0, 8.0, 8.1, 16.0, 16.1, ...; style k belongs to layer k, the
to-RGB layers take the style of the layer that follows them.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LRELU_GAIN = math.sqrt(2)


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator.

    Args:
        channels: width at 4, 8, 16, ... pixels; its length sets the resolution.
        latent_size: length of z.
        style_size: length of w; none for the length of z.
        mapping_layers: depth of the mapping network.
        clamp: limit of all activations, a guard of half precision; none for no limit.
    """

    channels: tuple[int, ...] = (128, 128, 96, 64, 32)
    latent_size: int = 128
    style_size: int | None = None
    mapping_layers: int = 4
    clamp: float | None = None

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)

    @property
    def w_dim(self) -> int:
        return self.style_size or self.latent_size

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"channels": list(self.channels)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "GeneratorConfig":
        return GeneratorConfig(**(values | {"channels": tuple(values["channels"])}))


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance of a unit normal."""
    return F.leaky_relu(x, 0.2) * _LRELU_GAIN


def limit(x: Tensor, bound: float | None) -> Tensor:
    return x if bound is None else x.clamp(-bound, bound)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: unit-variance weights, scaled when used."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


def low_pass_kernel(channels: int) -> Tensor:
    """The filter [1, 3, 3, 1] in both directions for a depthwise convolution, [C, 1, 4, 4]; sums to one."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps).repeat(channels, 1, 1, 1)


class UpsampleRGB(nn.Module):
    """Twice the size by the low-pass filter, for the image that the skips add up."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", 4 * low_pass_kernel(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.kernel.to(x.dtype), stride=2, padding=1, groups=3)


class ModulatedConv(nn.Module):
    """Convolution whose weights a style scales per input channel, then normalises per output.

    Scaling the activations on both sides of one shared convolution is the same function as a
    convolution with per-sample weights, and runs as one dense kernel on every device.
    """

    kernel: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, w_dim: int, up: bool, demodulate: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.padding, self.demodulate = kernel // 2, demodulate
        self.up = up
        if up:
            self.register_buffer("kernel", 4 * low_pass_kernel(outputs), persistent=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, self.kernel.to(x.dtype), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            power = style.square() @ weight.square().sum((2, 3)).t()
            x = x * torch.rsqrt(power + 1e-8)[:, :, None, None].to(x.dtype)
        return x


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias, activation: one feature map."""

    def __init__(
        self, inputs: int, outputs: int, resolution: int, config: GeneratorConfig, up: bool
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, config.w_dim, up, demodulate=True)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        self.clamp = config.clamp

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, w)
        x = x + noise.to(x.dtype) * self.noise_strength
        return limit(lrelu(x + self.bias[:, None, None]), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, not demodulated."""

    def __init__(self, inputs: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, config.w_dim, up=False, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = config.clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return limit(self.conv(x, w) + self.bias[:, None, None], self.clamp)


class Generator(nn.Module):
    """StyleGAN2: z -> w (`mapping`), w and noise -> image and features (`synthesis`)."""

    w_mean: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.mapping_layers = nn.ModuleList(
            EqualLinear(config.w_dim if i else config.latent_size, config.w_dim, rate=0.01)
            for i in range(config.mapping_layers)
        )
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.layers = nn.ModuleList([SynthesisLayer(channels[0], channels[0], 4, config, up=False)])
        self.to_rgb = nn.ModuleList([ToRGB(channels[0], config)])
        for i, (narrow, wide) in enumerate(pairwise(channels)):
            resolution = 8 * 2**i
            self.layers.append(SynthesisLayer(narrow, wide, resolution, config, up=True))
            self.layers.append(SynthesisLayer(wide, wide, resolution, config, up=False))
            self.to_rgb.append(ToRGB(wide, config))
        self.upsample = UpsampleRGB()

    @property
    def style_count(self) -> int:
        """L, the number of styles that the synthesis takes: 2 log2(resolution) - 2."""
        return len(self.layers) + 1

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise input of every feature layer."""
        return [(2 ** (2 + (i + 1) // 2),) * 2 for i in range(len(self.layers))]

    @property
    def feature_names(self) -> list[str]:
        """Names of the feature maps in order: resolution and position, as in `64.0`, `64.1`."""
        names = ["4.0"]
        for i in range(len(self.config.channels) - 1):
            names += [f"{8 * 2**i}.0", f"{8 * 2**i}.1"]
        return names

    @property
    def feature_channels(self) -> list[int]:
        channels = self.config.channels
        return [channels[0], *(c for c in channels[1:] for _ in range(2))]

    @property
    def features(self) -> dict[str, int]:
        """Channels of the feature maps by name, in order."""
        return dict(zip(self.feature_names, self.feature_channels, strict=True))

    def mapping(self, z: Tensor) -> Tensor:
        """[B, latent_size] normal -> [B, w_dim] in w."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.mapping_layers:
            x = lrelu(layer(x))
        return x

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull w towards its mean; psi = 1 leaves it, psi = 0 gives the mean face."""
        return self.w_mean.lerp(w, psi)

    def constant_noise(self) -> list[Tensor]:
        """The noise maps that belong to the checkpoint, each [1, 1, r, r]."""
        return [layer.get_buffer("noise") for layer in self.layers]

    def random_noise(self, batch: int) -> list[Tensor]:
        """Fresh noise maps from the global random state, each [B, 1, r, r]."""
        return [
            torch.randn(batch, 1, *shape, device=self.w_mean.device) for shape in self.noise_shapes
        ]

    def synthesis(self, w: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Draw images.

        Args:
            w: [B, w_dim], or [B, L, w_dim] with a style for each layer.
            noise: one map per feature layer, [B or 1, 1, r, r].

        Returns:
            Image [B, 3, R, R], nominally in [-1, 1], and the feature maps in the order of
            `feature_names`, each [B, C, r, r].
        """
        if w.ndim == 2:
            w = w.unsqueeze(1).expand(-1, self.style_count, -1)
        x = self.layers[0](self.constant.expand(len(w), -1, -1, -1), w[:, 0], noise[0])
        image, features = self.to_rgb[0](x, w[:, 1]), [x]
        for i in range(1, len(self.to_rgb)):
            for layer in (2 * i - 1, 2 * i):
                x = self.layers[layer](x, w[:, layer], noise[layer])
                features.append(x)
            image = self.upsample(image) + self.to_rgb[i](x, w[:, 2 * i + 1])
        return image, features

    def forward(self, z: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """[B, latent_size] -> image and w, for training."""
        w = self.mapping(z)
        return self.synthesis(w, noise)[0], w
