"""Draw samples from a generator, and choose the ones most worth annotating.

Sample number i of a seed is a pure function of (generator, seed, i): z and the noise inputs come from
a random state of its own. Samples of given latents have the checkpoint's constant noise.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.annotations import Samples
from datasets.artifacts import UserError
from datasets.pictures import Picture, tile
from datasets.state import seed_everything, step_seed
from teacher.stylegan2 import Generator

_COARSEST = 3  # the first feature map that tells parts apart: 16.0
_PROJECTED = 128  # dimensions that stand for thousands of channels


@torch.no_grad()
def draw_latents(
    generator: Generator, seed: int, indices: list[int], psi: float
) -> tuple[Tensor, list[Tensor]]:
    """Styles w [N, L, D] and noise maps [N, 1, r, r] of samples number `indices`, on its device.

    Noise is rounded to half precision, so that files may keep it so and give it back exactly.
    """
    z, noise = [], []
    for index in indices:
        state = torch.Generator().manual_seed(step_seed(seed, index))
        z.append(torch.randn(generator.config.latent_size, generator=state))
        noise.append([torch.randn(1, *shape, generator=state) for shape in generator.noise_shapes])
    device = generator.w_mean.device
    w = generator.truncate(generator.mapping(torch.stack(z).to(device)), psi)
    styles = w.unsqueeze(1).repeat(1, generator.style_count, 1)
    maps = [torch.stack(layer).half().float().to(device) for layer in zip(*noise, strict=True)]
    return styles, maps


def draw_samples(generator: Generator, seed: int, indices: list[int], psi: float) -> Samples:
    """Samples number `indices`, on the CPU."""
    return _draw(generator, *draw_latents(generator, seed, indices, psi))


@torch.no_grad()
def draw_from_z(generator: Generator, z: Tensor, psi: float) -> Samples:
    """Samples of the latents z [N, latent_size] with constant noise, on the CPU."""
    w = generator.truncate(generator.mapping(z.to(generator.w_mean.device)), psi)
    noise = [n.expand(len(z), -1, -1, -1) for n in generator.constant_noise()]
    return _draw(generator, w.unsqueeze(1).repeat(1, generator.style_count, 1), noise)


def read_latents(path: Path, size: int) -> Tensor:
    """z [N, size] from a .npy file; no pickled objects are read.

    Raises:
        UserError: the file is missing, damaged, or of another shape or type.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no .npy file of numbers ({error}).") from error
    shape = getattr(array, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] != size or array.dtype.kind != "f":
        raise UserError(
            f"{path} must hold float32 [N, {size}], z of this generator; it holds "
            f"{getattr(array, 'dtype', 'several arrays')} {list(shape or [])}."
        )
    return torch.from_numpy(array.astype(np.float32))


def z_of_seeds(generator: Generator, seeds: list[int]) -> Tensor:
    """The z that NVIDIA's tools draw for these seeds, so that their published faces come again."""
    size = generator.config.latent_size
    rows = [np.random.RandomState(seed).randn(size) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float()


@torch.no_grad()
def _draw(generator: Generator, w: Tensor, noise: list[Tensor]) -> Samples:
    step, images = samples_at_once(generator), []
    for i in range(0, len(w), step):
        part = slice(i, i + step)
        images.append(to_uint8(generator.synthesis(w[part], [n[part] for n in noise])[0]).cpu())
    return Samples(w.cpu(), [n.cpu() for n in noise], torch.cat(images))


def samples_at_once(generator: Generator) -> int:
    """How many samples may be drawn at once, their features kept within 128 MiB where one fits."""
    sides = zip(generator.feature_channels, generator.noise_shapes, strict=True)
    floats = sum(channels * height * width for channels, (height, width) in sides)
    return max(1, min(32, 2**25 // floats))


@torch.no_grad()
def choose_samples(
    generator: Generator, samples: Samples, count: int, parts: int = 24
) -> list[int]:
    """Pick the samples that are most worth annotating.

    The pixels of all samples are clustered by their features: clusters are parts that nobody named
    yet. A sample shows a part as well as its share of that part compares with the mean share. Chosen
    greedily are the samples that lie near many others in the distribution of parts and that show
    every part.

    Args:
        count: how many to choose.
        parts: number of clusters.

    Returns:
        Indices into `samples`, the most valuable first.
    """
    pixels = _pixel_features(generator, samples)
    pixels = pixels.sub_(pixels.mean((0, 1))).div_(pixels.std((0, 1)) + 1e-6)

    assigned = _cluster(pixels.flatten(0, 1), parts).view(len(samples), -1)
    shares = F.one_hot(assigned, parts).float().mean(1)  # [N, parts]
    relative = shares / shares.mean(0).clamp_min(1e-6)
    in_sight = relative.clamp(max=1).mean(1)
    profile = torch.cat([shares.sqrt(), _coarse(pixels)], 1)
    distance = torch.cdist(profile, profile)
    distance = distance / distance.mean()

    chosen: list[int] = []
    nearest = torch.full((len(samples),), float("inf"))
    for _ in range(count):
        reach = torch.minimum(nearest, distance.cpu()).mean(1)  # mean distance if i were added
        score = in_sight.cpu() - reach
        score[chosen] = -float("inf")
        chosen.append(int(score.argmax()))
        nearest = torch.minimum(nearest, distance[chosen[-1]].cpu())
    return chosen


def _pixel_features(generator: Generator, samples: Samples) -> Tensor:
    """Features of all pixels at 32 px, [N, P, C]; wide ones projected at random, which keeps distances."""
    device, size = generator.w_mean.device, min(32, generator.config.resolution)
    channels = sum(generator.feature_channels[_COARSEST:])
    projection = None
    if channels > 2 * _PROJECTED:
        state = torch.Generator().manual_seed(0)
        projection = torch.randn(channels, _PROJECTED, generator=state).to(device)
    scale: Tensor | None = None
    width = channels if projection is None else _PROJECTED
    pixels = torch.empty(len(samples), size * size, width, device=device)
    step = samples_at_once(generator)
    for start in range(0, len(samples), step):
        part = list(range(start, min(start + step, len(samples))))
        row = _column(generator, samples.take(part), size)
        if projection is not None:
            scale = row.std((0, 1)) + 1e-6 if scale is None else scale
            row = row / scale @ projection
        pixels[part] = row
    return pixels


def _column(generator: Generator, samples: Samples, size: int) -> Tensor:
    device = generator.w_mean.device
    _, features = generator.synthesis(samples.w.to(device), [n.to(device) for n in samples.noise])
    resized = [F.interpolate(f, size=(size, size), mode="bilinear") for f in features[_COARSEST:]]
    return torch.cat(resized, 1).permute(0, 2, 3, 1).flatten(1, 2)


def _coarse(pixels: Tensor) -> Tensor:
    """What a sample looks like at large: its mean features, scaled to weigh as its parts do."""
    mean = pixels.mean(1)
    return mean / mean.std() / mean.shape[1] ** 0.5 * 0.25


def _cluster(points: Tensor, count: int, rounds: int = 12) -> Tensor:
    """k-means; returns the cluster of every point. Deterministic."""
    state = torch.Generator().manual_seed(0)
    subset = points[torch.randperm(len(points), generator=state)[:20_000].to(points.device)]
    centres = subset[:count].clone()
    for _ in range(rounds):
        nearest = torch.cdist(subset, centres).argmin(1)
        for k in range(count):
            members = subset[nearest == k]
            if len(members):
                centres[k] = members.mean(0)
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in points.split(65_536)])


@torch.no_grad()
def mean_latent(generator: Generator, seed: int, count: int = 4096) -> Tensor:
    """Mean of `count` mapped latents."""
    seed_everything(seed)
    z = torch.randn(count, generator.config.latent_size, device=generator.w_mean.device)
    return generator.mapping(z).mean(0)


@torch.no_grad()
def draw_sheet(generator: Generator, seed: int, count: int, psi: float = 1.0) -> Picture:
    """A contact sheet of uncurated samples with constant noise, uint8 [H, W, 3]."""
    seed_everything(seed, count)
    device = generator.w_mean.device
    z = torch.randn(count, generator.config.latent_size, device=device)
    w = generator.truncate(generator.mapping(z), psi)
    return tile(to_uint8(generator.synthesis(w, generator.constant_noise())[0]))


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, both [B, 3, H, W]."""
    return ((images.float() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)
