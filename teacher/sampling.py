"""Draw samples from a generator, and choose the ones most worth annotating.

Sample number i of a seed is a pure function of (generator, seed, i): z and the noise inputs come from
a random state of its own.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datasets.annotations import Samples
from datasets.artifacts import UserError, read_json
from datasets.state import step_seed
from teacher.adversarial import ARCHITECTURE, WEIGHTS, to_uint8
from teacher.stylegan2 import Generator, GeneratorConfig

_CHUNK = 32


def load_generator(folder: Path, device: torch.device | str = "cpu") -> Generator:
    """Read a generator that the stage `generator` wrote, in float32, frozen, for inference.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing or left over.
    """
    try:
        generator = Generator(GeneratorConfig.from_json(read_json(folder / ARCHITECTURE)))
        weights = load_file(folder / WEIGHTS)
        generator.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} cannot be read ({error}); copy it again.") from error
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{folder} does not hold a generator of ours: {error}") from error
    return generator.float().eval().requires_grad_(False).to(device)


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


@torch.no_grad()
def draw_samples(generator: Generator, seed: int, indices: list[int], psi: float) -> Samples:
    """Samples number `indices`, on the CPU."""
    parts = []
    for start in range(0, len(indices), _CHUNK):
        w, noise = draw_latents(generator, seed, indices[start : start + _CHUNK], psi)
        image, _ = generator.synthesis(w, noise)
        parts.append((w.cpu(), [n.cpu() for n in noise], to_uint8(image).cpu()))
    return Samples(
        torch.cat([w for w, _, _ in parts]),
        [torch.cat(layer) for layer in zip(*(noise for _, noise, _ in parts), strict=True)],
        torch.cat([images for _, _, images in parts]),
    )


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
    columns = []
    for start in range(0, len(samples), _CHUNK):
        chunk = samples.take(list(range(start, min(start + _CHUNK, len(samples)))))
        device = generator.w_mean.device
        _, features = generator.synthesis(chunk.w.to(device), [n.to(device) for n in chunk.noise])
        size = min(32, generator.config.resolution)
        resized = [F.interpolate(f, size=(size, size), mode="bilinear") for f in features[3:]]
        columns.append(torch.cat(resized, 1).permute(0, 2, 3, 1).flatten(1, 2))
    pixels = torch.cat(columns)  # [N, P, C]
    pixels = (pixels - pixels.mean((0, 1))) / (pixels.std((0, 1)) + 1e-6)

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
