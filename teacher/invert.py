"""From a picture to the latents that draw it, by optimisation.

After Abdal et al., "Image2StyleGAN" (2019): a style for every layer (W+) is moved until the generator
draws the picture. Here the start is the best of many random faces, and the distance is taken at
several sizes, coarse ones first in effect, since they have few pixels and so large shares.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from datasets.annotations import Samples
from datasets.state import seed_everything
from teacher.sampling import samples_at_once
from teacher.stylegan2 import Generator


@dataclass(frozen=True)
class InversionConfig:
    """How pictures are inverted.

    Args:
        steps: of the optimiser, for each picture.
        rate: Adam's, falling to zero as a cosine.
        starts: random faces among which the start is looked for.
        pull: weight of the squared distance from w to its mean; larger is more face-like and less
            alike.
    """

    steps: int = 300
    rate: float = 0.05
    starts: int = 256
    pull: float = 1e-3
    seed: int = 0


def invert(
    generator: Generator, pictures: Tensor, config: InversionConfig
) -> tuple[Samples, Tensor]:
    """Find styles for pictures; noise stays the checkpoint's constant noise.

    Args:
        pictures: uint8 [N, 3, R, R] at the generator's resolution.

    Returns:
        Samples that hold the given pictures and the found styles, and the PSNR of each
        reconstruction in dB, [N].
    """
    seed_everything(config.seed)
    device, noise = generator.w_mean.device, generator.constant_noise()
    z = torch.randn(config.starts, generator.config.latent_size, device=device)
    step = samples_at_once(generator)
    with torch.no_grad():
        starts = torch.cat([generator.w_mean[None], generator.truncate(generator.mapping(z), 0.7)])
        drawn = [_coarse(generator.synthesis(part, noise)[0]) for part in starts.split(step)]
        candidates = torch.cat(drawn)

    found, quality = [], []
    bar = tqdm(total=len(pictures) * config.steps, desc="invert", unit="step")
    for chunk in pictures.split(max(1, step // 4)):
        target = chunk.to(device).float() / 127.5 - 1
        nearest = torch.cdist(_coarse(target), candidates).argmin(1)
        w = starts[nearest].unsqueeze(1).repeat(1, generator.style_count, 1).requires_grad_(True)
        optimiser = torch.optim.Adam([w], config.rate)
        for i in range(config.steps):
            optimiser.param_groups[0]["lr"] = (
                config.rate * 0.5 * (1 + math.cos(math.pi * i / config.steps))
            )
            image, _ = generator.synthesis(w, noise)
            far = (w - generator.w_mean).square().mean((1, 2))
            loss = (distance(image, target) + config.pull * far).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            bar.update(len(chunk))
        with torch.no_grad():
            image, _ = generator.synthesis(w, noise)
            error = (image.clamp(-1, 1) - target).square().mean((1, 2, 3)) / 4  # as on [0, 1]
        found.append(w.detach().cpu())
        quality.append(-10 * error.clamp_min(1e-10).log10().cpu())
    bar.close()
    count = len(pictures)
    repeated = [n.cpu().expand(count, -1, -1, -1) for n in noise]
    return Samples(torch.cat(found), repeated, pictures), torch.cat(quality)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference at full, half, quarter and eighth size, [B]."""
    total = torch.zeros(len(a), device=a.device)
    for size in (1, 2, 4, 8):
        difference = F.avg_pool2d(a, size) - F.avg_pool2d(b, size)
        total = total + difference.abs().mean((1, 2, 3))
    return total


def _coarse(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images, 8).flatten(1)
