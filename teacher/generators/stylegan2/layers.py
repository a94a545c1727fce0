"""The layers of StyleGAN2: equalised learning rate, modulated convolutions, noise inputs.

After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
appendix B. Activations have unit variance where their inputs have.

Shapes: B = batch, C = channels, r = a layer's resolution, D = length of a style.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teacher.generators.stylegan2.architecture import DEFAULT_FILTER

_LRELU_GAIN = math.sqrt(2)


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance of a unit normal."""
    return F.leaky_relu(x, 0.2) * _LRELU_GAIN


def relu(x: Tensor) -> Tensor:
    """ReLU that keeps the mean square of a unit normal."""
    return F.relu(x) * _LRELU_GAIN


def linear(x: Tensor) -> Tensor:
    """No activation."""
    return x


ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "lrelu": lrelu,
    "relu": relu,
    "linear": linear,
}


def limit(x: Tensor, bound: float | None) -> Tensor:
    """Cut to [-bound, bound], where there is one."""
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


def low_pass_kernel(channels: int, taps: Sequence[float] = DEFAULT_FILTER) -> Tensor:
    """A filter in both directions for a depthwise convolution, [C, 1, n, n]; sums to one."""
    row = torch.tensor(taps, dtype=torch.float32)
    row = row / row.sum()
    return torch.outer(row, row).repeat(channels, 1, 1, 1)


class UpsampleRGB(nn.Module):
    """Twice the size by the low-pass filter, for the image that the skips add up.

    Zeros are inserted, n // 2 places are added before the image (counted so that filters of any length n
    leave it where the original code does), and it is filtered.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float] = DEFAULT_FILTER) -> None:
        super().__init__()
        self.register_buffer("kernel", 4 * low_pass_kernel(3, taps), persistent=False)
        n = len(taps)
        before = n - 1 - (n + 1) // 2  # of the whole convolution's output, what is cut off
        self.cut = (before, n - 2 - before)

    def forward(self, x: Tensor) -> Tensor:
        kernel, common = self.kernel.to(x.dtype), min(self.cut)
        if self.cut[0] == self.cut[1]:
            return F.conv_transpose2d(x, kernel, stride=2, padding=common, groups=3)
        before, after = self.cut
        whole = F.conv_transpose2d(x, kernel, stride=2, groups=3)
        return F.pad(whole, (-before, -after, -before, -after))


class ModulatedConv(nn.Module):
    """Convolution whose weights a style scales per input channel, then normalises per output.

    Scaling the activations on both sides of one shared convolution is the same function as a
    convolution with per-sample weights, and runs as one dense kernel on every device.
    """

    kernel: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        w_dim: int,
        up: bool,
        demodulate: bool,
        taps: Sequence[float] = DEFAULT_FILTER,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.padding, self.demodulate = kernel // 2, demodulate
        self.up = up
        if up:
            filters = 4 * low_pass_kernel(outputs, taps).flip(2, 3)  # torch correlates
            self.register_buffer("kernel", filters, persistent=False)
            self.edges = ((len(taps) + 1) // 2 - 1, (len(taps) - 2) // 2)  # before and after

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = self._filter(x)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            power = style.square() @ weight.square().sum((2, 3)).t()
            x = x * torch.rsqrt(power + 1e-8)[:, :, None, None].to(x.dtype)
        return x

    def _filter(self, x: Tensor) -> Tensor:
        before, after = self.edges
        if before != after:
            x = F.pad(x, (before, after, before, after))
        padding = before if before == after else 0
        return F.conv2d(x, self.kernel.to(x.dtype), padding=padding, groups=x.shape[1])


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias, activation: one feature map."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resolution: int,
        w_dim: int,
        clamp: float | None,
        up: bool,
        activation: str = "lrelu",
        taps: Sequence[float] = DEFAULT_FILTER,
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, up, demodulate=True, taps=taps)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        self.clamp, self.activate = clamp, ACTIVATION_FUNCTIONS[activation]

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, w)
        x = x + noise.to(x.dtype) * self.noise_strength
        return limit(self.activate(x + self.bias[:, None, None]), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, not demodulated."""

    def __init__(self, inputs: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, w_dim, up=False, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return limit(self.conv(x, w) + self.bias[:, None, None], self.clamp)
