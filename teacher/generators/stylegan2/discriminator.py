"""The StyleGAN2 discriminator: residual blocks and minibatch standard deviation (Karras et al., 2020)."""

import math

import torch.nn.functional as F
from torch import Tensor, cat, nn, randn

from teacher.generators.stylegan2.layers import EqualLinear, low_pass_kernel, lrelu

GROUP = 4  # samples that share one standard deviation


class EqualConv(nn.Module):
    """Convolution with equalised learning rate; `down` halves the size, after a low-pass filter."""

    kernel: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, down: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(randn(outputs) * 0) if bias else None
        self.scale, self.padding, self.down = 1 / math.sqrt(inputs * kernel**2), kernel // 2, down
        if down:
            self.register_buffer("kernel", low_pass_kernel(inputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=self.padding)
        # Filter at full size: a depthwise convolution with a stride is slow in half precision.
        kernel = self.kernel.to(x.dtype)
        x = F.conv2d(x, kernel, padding=self.padding + 1, groups=x.shape[1])
        return F.conv2d(x, weight, self.bias, stride=2)


class Block(nn.Module):
    """Residual block that halves the size: two convolutions, and a 1x1 convolution as the skip."""

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
        group = min(GROUP, len(x))
        spread = x.view(-1, group, *x.shape[1:]).var(1, unbiased=False).add(1e-8).sqrt()
        spread = spread.mean((1, 2, 3), keepdim=True).repeat_interleave(group, 0)
        x = cat([x, spread.expand(-1, 1, *x.shape[2:])], dim=1)
        x = lrelu(self.hidden(lrelu(self.last(x)).flatten(1)))
        return self.logit(x).squeeze(1)
