"""The StyleGAN2 discriminator (residual, with minibatch standard deviation)."""

import math

import torch.nn.functional as F
from torch import Tensor, cat, nn, outer, randn

from teacher.stylegan2 import EqualLinear, lrelu

_GROUP = 4  # samples that share one standard deviation


def with_blur(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Kernels [O, I, k, k] joined with the low-pass filter [1, 3, 3, 1]: [O, I, k + 3, k + 3].

    Filters commute, so that one strided convolution with the joined kernel equals filtering and
    convolving in turn, borders included, without a pass over full-size activations for the filter.
    """
    taps = weight.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (outer(taps, taps) * (gain / 64)).expand(1, 1, 4, 4)
    joined = F.conv2d(weight.flatten(0, 1).unsqueeze(1), kernel, padding=3)
    return joined.view(*weight.shape[:2], *joined.shape[2:])


class EqualConv(nn.Module):
    """Convolution with equalised learning rate; `down` halves the size behind a low-pass."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, down: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(randn(outputs) * 0) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.stride, self.padding = (2, kernel // 2 + 1) if down else (1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.stride == 2:
            weight = with_blur(weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Block(nn.Module):
    """Residual block that halves the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs, 3)
        self.second = EqualConv(inputs, outputs, 3, down=True)
        self.skip = EqualConv(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (lrelu(self.second(lrelu(self.first(x)))) + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """Images [B, 3, R, R] in [-1, 1] -> logits [B]; B must be a multiple of 4 (or below 4).

    Args:
        channels: width at 4, 8, 16, ... pixels, as for the generator.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.from_rgb = EqualConv(3, channels[-1], 1)
        pairs = zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True)
        self.blocks = nn.Sequential(*(Block(wide, narrow) for wide, narrow in pairs))
        self.last = EqualConv(channels[0] + 1, channels[0], 3)
        self.hidden = EqualLinear(channels[0] * 16, channels[0])
        self.logit = EqualLinear(channels[0], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(lrelu(self.from_rgb(images)))
        group = min(_GROUP, len(x))
        spread = x.view(-1, group, *x.shape[1:]).var(1, unbiased=False).add(1e-8).sqrt()
        spread = spread.mean((1, 2, 3), keepdim=True).repeat_interleave(group, 0)
        x = cat([x, spread.expand(-1, 1, *x.shape[2:])], dim=1)
        x = lrelu(self.hidden(lrelu(self.last(x)).flatten(1)))
        return self.logit(x).squeeze(1)
