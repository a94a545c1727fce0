"""A StyleGAN2 under NVIDIA's names: random tensors, and the original network written out densely."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]
CHANNELS = (24, 20, 16, 12, 8)  # 64 px


def make_tensors(
    channels: Sequence[int] = CHANNELS, z_dim: int = 16, w_dim: int = 12, depth: int = 3
) -> Tensors:
    """Random tensors of a StyleGAN2 under NVIDIA's names, in NVIDIA's shapes."""
    torch.manual_seed(0)
    made = {"mapping.w_avg": torch.randn(w_dim)}
    for i in range(depth):
        made[f"mapping.fc{i}.weight"] = torch.randn(w_dim, w_dim if i else z_dim) * 100
        made[f"mapping.fc{i}.bias"] = torch.randn(w_dim) * 10
    made["synthesis.b4.const"] = torch.randn(channels[0], 4, 4)
    for i, width in enumerate(channels):
        r = 4 * 2**i
        before = channels[max(i - 1, 0)]
        convs = {"conv0": before, "conv1": width} if i else {"conv1": width}
        for name, inputs in convs.items():
            place = f"synthesis.b{r}.{name}."
            made[place + "weight"] = torch.randn(width, inputs, 3, 3)
            made[place + "bias"] = torch.randn(width) * 0.1
            made[place + "affine.weight"] = torch.randn(inputs, w_dim)
            made[place + "affine.bias"] = 1 + torch.randn(inputs) * 0.1
            made[place + "noise_const"] = torch.randn(r, r)
            made[place + "noise_strength"] = torch.randn(()) * 0.2
        place = f"synthesis.b{r}.torgb."
        made[place + "weight"] = torch.randn(3, width, 1, 1)
        made[place + "bias"] = torch.randn(3) * 0.1
        made[place + "affine.weight"] = torch.randn(width, w_dim)
        made[place + "affine.bias"] = 1 + torch.randn(width) * 0.1
    return made


def blur(x: Tensor, gain: float, padding: tuple[int, int, int, int]) -> Tensor:
    taps = torch.tensor([1.0, 3, 3, 1])
    kernel = (torch.outer(taps, taps) * gain / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, padding), kernel, groups=x.shape[1])


def original_image(t: Tensors, z: Tensor, psi: float) -> Tensor:
    """The image that the file's own network draws, one modulated kernel per sample."""
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    i = 0
    while f"mapping.fc{i}.weight" in t:
        weight = t[f"mapping.fc{i}.weight"]
        x = x @ (weight * 0.01 / weight.shape[1] ** 0.5).t() + t[f"mapping.fc{i}.bias"] * 0.01
        x = F.leaky_relu(x, 0.2) * 2**0.5
        i += 1
    w = t["mapping.w_avg"] + psi * (x - t["mapping.w_avg"])

    def style(place: str) -> Tensor:
        matrix = t[place + "affine.weight"]
        return w @ (matrix / matrix.shape[1] ** 0.5).t() + t[place + "affine.bias"]

    def layer(x: Tensor, place: str, up: bool) -> Tensor:
        kernels = t[place + "weight"][None] * style(place)[:, None, :, None, None]
        kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        rows = []
        for row, kernel in zip(x, kernels, strict=True):
            if up:
                wide = F.conv_transpose2d(row[None], kernel.transpose(0, 1), stride=2)
                rows.append(blur(wide, 4.0, (1, 1, 1, 1)))
            else:
                rows.append(F.conv2d(row[None], kernel, padding=1))
        x = torch.cat(rows) + t[place + "noise_const"] * t[place + "noise_strength"]
        return F.leaky_relu(x + t[place + "bias"][:, None, None], 0.2) * 2**0.5

    x, r = t["synthesis.b4.const"].expand(len(z), -1, -1, -1), 4
    image = torch.zeros(len(z), 3, 2, 2)  # the first skip adds nothing
    while f"synthesis.b{r}.torgb.weight" in t:
        if r > 4:
            x = layer(x, f"synthesis.b{r}.conv0.", up=True)
        x = layer(x, f"synthesis.b{r}.conv1.", up=False)
        place = f"synthesis.b{r}.torgb."
        weight = t[place + "weight"] / t[place + "weight"].shape[1] ** 0.5
        rgb = torch.einsum("oi,bi,bihw->bohw", weight[:, :, 0, 0], style(place), x)
        rgb = rgb + t[place + "bias"][:, None, None]
        spread = torch.zeros(len(z), 3, r, r)
        spread[..., ::2, ::2] = image
        rgb = rgb + blur(spread, 4.0, (2, 1, 2, 1))
        image, r = rgb, r * 2
    return image
