"""The teacher's layers in forms that a processor is quick at; on a GPU they are PyTorch's.

Shapes: B = batch, C = channels, S = the image's side, d = dilation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of x [B, C, S, S], which keeps its size.

    A dilated one takes each d-th row and column as an image of its own, which is the same sum: on a CPU,
    PyTorch's gradients of dilated convolutions take half as long again.
    """
    assert isinstance(conv, nn.Conv2d)
    d, side = conv.dilation[0], x.shape[-1]
    if d == 1 or side % d or x.device.type != "cpu":
        return conv(x)  # type: ignore[no-any-return]
    grid = x.permute(0, 2, 3, 1).unflatten(2, (-1, d)).unflatten(1, (-1, d))  # [B, y, d, x, d, C]
    images = grid.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)
    made = F.conv2d(images, conv.weight, conv.bias, padding=1, groups=conv.groups)
    grid = made.permute(0, 2, 3, 1).unflatten(0, (d, d, -1)).permute(2, 3, 0, 4, 1, 5)
    return grid.reshape(len(x), side, side, -1).permute(0, 3, 1, 2)


def dropout(x: Tensor, share: float) -> Tensor:
    """Dropout of a dense tensor, as `F.dropout` does it in training.

    On a CPU, four numbers come from each 64 bits that PyTorch draws, which takes a quarter of the time; the
    share is then the nearest multiple of 1/65,536.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    left_out = round(share * 2**16)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.int16) >= left_out - 2**15
    factor = keep.to(x.dtype).mul_(2**16 / (2**16 - left_out))
    return x * factor.as_strided(x.shape, x.stride())
