"""A narrow U-Net (Ronneberger et al., "U-Net", 2015).

At every resolution, a single convolution merges the encoder's map with what comes from the coarser one.
The last step joins a convolution on the image itself, so that small parts keep their edges. It runs at the
image's size or, for large images, at a half or a quarter of it, where one place gives the logits of a block
of pixels (sub-pixel convolution, Shi et al., 2016): most of the decoder's work is there.

Shapes: B = batch, H, W = pixels; s = output stride.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from student.base import NetworkConfig, Student


class NarrowUNet(Student):
    """The decoder described above.

    Raises:
        UserError: the output stride does not divide the encoder's finest one.
    """

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__(config, classes)
        width, s = config.decoder_width, config.output_stride
        if s < 1 or self.strides[0] % s:
            raise UserError(
                f"student.network.output_stride is {s}; the finest map of {config.encoder!r} has one place "
                f"for {self.strides[0]} pixels, so choose a divisor of that."
            )
        widths = [width + i * width // 2 for i in range(len(self.channels))]
        self.lateral = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(self.channels, widths, strict=True)
        )
        self.merge = nn.ModuleList(_conv(a + b, a) for a, b in pairwise(widths))
        # A place that gives a block of pixels has more to keep: s times the channels.
        detail, last = s * config.detail_channels, s * width
        self.detail = _conv(3, detail, s + 2, s)  # sees a block and the pixels around it
        self.join = nn.Sequential(_conv(width + detail, last), _conv(last, last))
        self.classify = nn.Conv2d(last, classes * s * s, 1)
        self.spread = nn.PixelShuffle(s) if s > 1 else nn.Identity()
        self.steps = [b // a for a, b in pairwise([s, *self.strides])]

    def decode(self, x: Tensor, levels: list[Tensor]) -> Tensor:
        narrow = [lateral(f) for lateral, f in zip(self.lateral, levels, strict=True)]
        y = narrow[-1]
        for level, merge, step in zip(
            narrow[-2::-1], reversed(self.merge), self.steps[:0:-1], strict=True
        ):
            y = merge(torch.cat([level, _enlarge(y, step, "nearest")], 1))
        y = torch.cat([_enlarge(y, self.steps[0], "bilinear"), self.detail(x)], 1)
        return self.spread(self.classify(self.join(y)))  # type: ignore[no-any-return]


def _enlarge(x: Tensor, times: int, mode: str) -> Tensor:
    """A map enlarged by a constant factor, which exporters handle better than a computed size."""
    return x if times == 1 else F.interpolate(x, scale_factor=times, mode=mode)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
