"""A 3x3 convolution over all feature maps at once, without upsampling any of them.

A hypercolumn upsamples every map to the image and concatenates. Upsampling acts on each channel
alone and a convolution sums over channels, so the two commute up to the kernel's shifts: each map is
multiplied by the kernel's nine taps at its own size, and the nine results are upsampled, shifted and
summed. Nearest-neighbour upsampling by a whole factor does that at the map's own size too; any other
by two small matrix products. The function, its weights and its borders are those of an ordinary
convolution over the concatenation; only the work and the memory are smaller.

Shapes: B = batch, O = output channels, C = channels of a map, r = its side, S = the image's side.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Interpolation = Literal["nearest", "bilinear"]

_OUTPUTS = 32  # output channels at once: what lies between stays small, however wide the layer


def upsample(features: Sequence[Tensor], size: int, mode: Interpolation) -> Tensor:
    """The hypercolumn itself, [B, sum of C, S, S]: the dense path that the layer below avoids."""
    kwargs = {"align_corners": False} if mode == "bilinear" else {}
    return torch.cat([F.interpolate(f, (size, size), mode=mode, **kwargs) for f in features], 1)


class HypercolumnConv(nn.Module):
    """Conv2d(sum of channels, outputs, 3, padding=1) over the upsampled concatenation.

    Args:
        channels: channels of each feature map, in order.
        outputs: O.
        size: S, the side of the output.
        mode: how maps are upsampled.
    """

    def __init__(
        self, channels: Sequence[int], outputs: int, size: int, mode: Interpolation = "nearest"
    ) -> None:
        super().__init__()
        self.channels, self.size, self.mode = list(channels), size, mode
        self.weight = nn.Parameter(torch.empty(outputs, sum(channels), 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(sum(channels) * 9)
        nn.init.uniform_(self.bias, -bound, bound)
        self._shifts: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps [B, C, r, r] in the order of `channels` -> [B, O, S, S]."""
        weights = self.weight.split(self.channels, dim=1)
        total: Tensor | None = None
        # Maps of one size share one product.
        for side, group in groupby(zip(features, weights, strict=True), lambda fw: fw[0].shape[-1]):
            maps, kernels = zip(*group, strict=True)
            x, kernel = torch.cat(maps, 1), torch.cat(kernels, 1)
            if side == self.size:
                part = F.conv2d(x, kernel, padding=1)
            else:
                whole = self.mode == "nearest" and self.size % side == 0
                method = self._repeated if whole else self._multiplied
                part = torch.cat([method(x, some) for some in kernel.split(_OUTPUTS)], 1)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.add_(self.bias[:, None, None])

    def _repeated(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Upsampled by repeating: along an axis only three sums of taps differ, whatever the factor."""
        outputs, factor = len(kernel), self.size // x.shape[-1]
        taps = kernel.permute(2, 3, 0, 1).flatten(0, 2)[..., None, None]  # [ky kx O, C, 1, 1]
        maps = F.conv2d(x, taps).unflatten(1, (3, 3, outputs))
        rows = [_phases(maps[:, :, kx].unbind(1), 2) for kx in range(3)]
        wide = [_repeat(_phases(row, 3), factor, 3) for row in zip(*rows, strict=True)]
        return _repeat(wide, factor, 2)

    def _multiplied(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Upsampled by matrix products, in any way that treats rows and columns alike."""
        batch, channels, side, _ = x.shape
        outputs = len(kernel)
        taps = kernel.permute(0, 2, 3, 1).reshape(outputs * 9, channels, 1, 1)
        # [B, O, ky, kx, y, x] -> rows (ky, y) and columns (kx, x) of one matrix per output.
        maps = F.conv2d(x, taps).view(batch, outputs, 3, 3, side, side)
        maps = maps.transpose(3, 4).reshape(batch * outputs, 3 * side, 3 * side)
        shift = self._shift(side, maps.dtype, maps.device)
        rows = torch.matmul(shift, maps)
        return torch.matmul(rows, shift.t()).view(batch, outputs, self.size, self.size)

    def _shift(self, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """[S, 3r]: upsample r to S, then shift by -1, 0, 1 with zeros coming in, side by side."""
        key = (side, dtype, device)
        if key not in self._shifts:
            eye = torch.eye(side, dtype=torch.float64)[None]
            kwargs = {"align_corners": False} if self.mode == "bilinear" else {}
            mode = "linear" if self.mode == "bilinear" else "nearest"
            up = F.interpolate(eye, self.size, mode=mode, **kwargs)[0].t()  # [S, r]
            padded = F.pad(up, (0, 0, 1, 1))
            shifts = [padded[tap : tap + self.size] for tap in range(3)]
            self._shifts[key] = torch.cat(shifts, 1).to(device, dtype)
        return self._shifts[key]


def _phases(taps: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Sums of three taps at the first, an inner and the last of the pixels that repeat a pixel.

    The first one's left neighbour repeats the pixel before, the last one's right neighbour the one after.
    """
    before, here, after = taps
    most = here.shape[dim] - 1
    first, last = here + after, before + here
    inner = first + before
    first.narrow(dim, 1, most).add_(before.narrow(dim, 0, most))
    last.narrow(dim, 0, most).add_(after.narrow(dim, 1, most))
    return [first, inner, last]


def _repeat(phases: Sequence[Tensor], factor: int, dim: int) -> Tensor:
    """The first, the inner (factor - 2 times) and the last, pixel by pixel along `dim`."""
    first, inner, last = (phase.unsqueeze(dim + 1) for phase in phases)
    sizes = [-1] * inner.ndim
    sizes[dim + 1] = factor - 2
    return torch.cat([first, inner.expand(sizes), last], dim + 1).flatten(dim, dim + 1)
