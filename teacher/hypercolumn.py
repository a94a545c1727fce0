"""A 3x3 convolution over all feature maps at once, without upsampling any of them.

A hypercolumn upsamples every map to the image and concatenates. Upsampling acts on each channel
alone and a convolution sums over channels, so the two commute up to the kernel's shifts: each map is
multiplied by the kernel's nine taps at its own size, and the nine results are upsampled, shifted and
summed. Nearest-neighbour upsampling by a whole factor does that at the map's own size too; any other
by two small matrix products. The function, its weights and its borders are those of an ordinary
convolution over the concatenation; only the work and the memory are smaller.

What lies between is laid out as [B, y, x, O]: a shift or a repetition then moves whole pixels, O numbers
side by side. Large maps are taken in strips of rows, so that what lies between stays in a processor's
cache.

Shapes: B = batch, O = output channels, C = channels of a map, r = its side, S = the image's side,
f = S / r.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Interpolation = Literal["nearest", "bilinear"]

_STRIP = 2**20  # numbers between the nine taps and their sum that a processor holds at once


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
        """Feature maps [B, C, r, r] in the order of `channels` -> [B, O, S, S], channels last."""
        weights = self.weight.split(self.channels, dim=1)
        total, small = None, []
        # Maps of one size share one product.
        for side, group in groupby(zip(features, weights, strict=True), lambda fw: fw[0].shape[-1]):
            maps, kernels = zip(*group, strict=True)
            kernel = torch.cat(kernels, 1)
            if side == self.size:
                x = _joined(maps)
                part = F.conv2d(x, kernel, self.bias if total is None else None, padding=1)
                total = part if total is None else total + part
            else:
                x = maps[0] if len(maps) == 1 else torch.cat(maps, 1)
                small.append((x, kernel.permute(1, 2, 3, 0).flatten(1)))  # [C, ky kx O]
        if total is None:
            shape = (len(features[0]), len(self.bias), self.size, self.size)
            total = self.bias[:, None, None].expand(shape).clone(memory_format=torch.channels_last)
        for x, taps in small:
            whole = self.mode == "nearest" and self.size % x.shape[-1] == 0
            total = self._repeated(total, x, taps) if whole else total + self._multiplied(x, taps)
        return total

    def _repeated(self, total: Tensor, x: Tensor, taps: Tensor) -> Tensor:
        """Add what is upsampled by repeating to the total [B, O, S, S]."""
        side, factor = x.shape[-1], self.size // x.shape[-1]
        for images, rows in _strips(x, taps.shape[1]):
            # Pixels [b, y r, C] as they lie, which a product can read column by column.
            pixels = x[images].flatten(2)[..., rows.start * side : rows.stop * side].transpose(1, 2)
            products = (pixels @ taps).unflatten(1, (-1, side))
            total = _AddRepeated.apply(total, products, images, rows, factor)
        return total

    def _multiplied(self, x: Tensor, taps: Tensor) -> Tensor:
        """Upsampled by matrix products, in any way that treats rows and columns alike."""
        batch, _, side, _ = x.shape
        products = (x.permute(0, 2, 3, 1) @ taps).unflatten(-1, (3, 3, -1))
        shift = self._shift(side, products.dtype, products.device)
        # [B, y, x, ky, kx, O] -> rows (ky, y), then columns (kx, x), as the shift has them.
        rows = shift @ products.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3 * side, -1)
        return (shift @ rows.view(batch, self.size, 3 * side, -1)).permute(0, 3, 1, 2)

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


def _joined(maps: tuple[Tensor, ...]) -> Tensor:
    """Maps of one size side by side, channels last; without gradients, in no more memory than that."""
    if torch.is_grad_enabled() and any(f.requires_grad for f in maps):
        return torch.cat(maps, 1).contiguous(memory_format=torch.channels_last)
    batch, _, *sides = maps[0].shape
    channels = [f.shape[1] for f in maps]
    x = torch.empty(
        (batch, sum(channels), *sides), dtype=maps[0].dtype, device=maps[0].device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    for part, f in zip(x.split(channels, 1), maps, strict=True):
        part.copy_(f)
    return x


def _strips(x: Tensor, numbers: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows of x [B, C, r, r] that are multiplied at once.

    Args:
        numbers: of the nine taps at each place.
    """
    batch, _, side, _ = x.shape
    image = side**2 * numbers
    at_once = _STRIP if x.device.type == "cpu" else batch * image
    images, strips = max(1, at_once // image), -(-image // at_once)
    rows = -(-side // strips)
    for first in range(0, batch, images):
        for row in range(0, side, rows):
            yield slice(first, first + images), slice(row, min(row + rows, side))


class _AddRepeated(torch.autograd.Function):
    """Adds nine products to a total as a convolution over their repetition would: shifts and sums.

    Whatever the factor, along an axis only three kinds of pixels differ among those that repeat one: the
    first, whose left neighbour repeats the one before; the last; and those between.
    """

    @staticmethod
    def forward(
        context: Any, total: Tensor, products: Tensor, images: slice, rows: slice, factor: int
    ) -> Tensor:
        """total [B, O, S, S], changed in place; products [b, y, r, 9 O] of some images and rows."""
        context.place = images, rows, factor
        context.mark_dirty(total)
        cells, above, below = _cells(total, images, rows, factor)
        taps = products.unflatten(-1, (3, 3, -1))
        for x, columns in zip(_kinds(factor), _phases(taps, 4, 2, factor), strict=True):
            for y, phase in zip(_kinds(factor), _phases(columns, 3, 1, factor), strict=True):
                cells[:, :, y, :, x] += phase[:, :, None, :, None]
            # The strip's first and last row reach into those beside it.
            if above is not None:
                above[:, :, x] += columns[:, 0, :, 2, None]
            if below is not None:
                below[:, :, x] += columns[:, -1, :, 0, None]
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, rows, factor = context.place
        cells, above, below = _cells(gradient, images, rows, factor)
        batch, height, _, side, _, outputs = cells.shape
        columns = gradient.new_empty(batch, height, 3, side, factor, outputs)
        _gather(_sums(cells, 2, factor), columns, 2, 1)
        if above is not None:
            columns[:, 0, 2] += above
        if below is not None:
            columns[:, -1, 0] += below
        taps = gradient.new_empty(batch, height, side, 3, 3, outputs)
        _gather(_sums(columns, 4, factor), taps.transpose(2, 3), 4, 3)
        return gradient, taps.flatten(3), None, None, None


def _cells(
    total: Tensor, images: slice, rows: slice, factor: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Views of [B, O, S, S] where each pixel of some rows [b, y, r] is repeated.

    Returns:
        Those pixels, [b, y, f, r, f, O]; the row above them and the one below, [b, r, f, O], if any.
    """
    cells = total[images].permute(0, 2, 3, 1).unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
    above = cells[:, rows.start - 1, -1] if rows.start else None
    below = cells[:, rows.stop, 0] if rows.stop < cells.shape[1] else None
    return cells[:, rows], above, below


def _kinds(factor: int) -> list[slice]:
    """The first, the inner and the last of the pixels that repeat a pixel; of two, none is inner."""
    inner = [slice(1, factor - 1)] if factor > 2 else []
    return [slice(0, 1), *inner, slice(factor - 1, factor)]


def _sums(x: Tensor, dim: int, factor: int) -> list[Tensor]:
    """The sum over each kind of the pixels that lie along `dim`."""
    inner = [x.narrow(dim, 1, factor - 2).sum(dim)] if factor > 2 else []
    return [x.select(dim, 0), *inner, x.select(dim, factor - 1)]


def _phases(taps: Tensor, dim: int, axis: int, factor: int) -> list[Tensor]:
    """What three taps, which lie along `dim`, add up to at each kind of pixel along `axis`."""
    before, here, after = taps.unbind(dim)
    most = here.shape[axis] - 1
    first, last = here + after, before + here
    inner = [first + before] if factor > 2 else []
    first.narrow(axis, 1, most).add_(before.narrow(axis, 0, most))
    last.narrow(axis, 0, most).add_(after.narrow(axis, 1, most))
    return [first, *inner, last]


def _gather(kinds: Sequence[Tensor], taps: Tensor, dim: int, axis: int) -> None:
    """The transpose of `_phases`: fill in the taps, which lie along `dim`, from each kind of pixel."""
    first, *inner, last = kinds
    before, here, after = taps.unbind(dim)
    most = first.shape[axis] - 1
    before.copy_(torch.add(last, inner[0]) if inner else last)
    after.copy_(torch.add(first, inner[0]) if inner else first)
    torch.add(before, first, out=here)
    before.narrow(axis, 0, most).add_(first.narrow(axis, 1, most))
    after.narrow(axis, 1, most).add_(last.narrow(axis, 0, most))
