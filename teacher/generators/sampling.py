"""Draw samples from a generator.

Sample number i of a seed is a pure function of (generator, seed, i): z and the noise inputs come from
a random state of its own. Samples of given latents have the checkpoint's constant noise.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.seeding import seed_everything, step_seed
from datasets.annotations import Samples
from datasets.sheets import Picture, tile
from teacher.generators.stylegan2.network import Generator

# Numbers of samples -> styles w [N, L, D] and noise maps [N, 1, r, r], on the generator's device.
Latents = Callable[[list[int]], tuple[Tensor, list[Tensor]]]


def latents_of_seed(generator: Generator, seed: int, psi: float) -> Latents:
    """Samples of a seed: every number has a z and noise inputs of its own."""

    @torch.no_grad()
    def latents(numbers: list[int]) -> tuple[Tensor, list[Tensor]]:
        z, noise = random_inputs(generator, seed, numbers)
        device = generator.w_mean.device
        return styles_of(generator, z, psi), [n.to(device) for n in noise]

    return latents


def random_inputs(
    generator: Generator, seed: int, numbers: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """z [N, latent_size] and noise maps [N, 1, r, r] of samples of a seed, on the CPU.

    Noise is rounded to half precision, so that files may keep it so and give it back exactly.
    """
    z, noise = [], []
    for number in numbers:
        state = torch.Generator().manual_seed(step_seed(seed, number))
        z.append(torch.randn(generator.config.latent_size, generator=state))
        noise.append([torch.randn(1, *s, generator=state) for s in generator.noise_shapes])
    return torch.stack(z), [torch.stack(layer).half().float() for layer in zip(*noise, strict=True)]


def latents_of_z(generator: Generator, z: Tensor, psi: float) -> Latents:
    """The given z [N, latent_size] with the checkpoint's constant noise."""

    @torch.no_grad()
    def latents(numbers: list[int]) -> tuple[Tensor, list[Tensor]]:
        noise = [n.expand(len(numbers), -1, -1, -1) for n in generator.constant_noise()]
        return styles_of(generator, z[numbers], psi), noise

    return latents


def styles_of(generator: Generator, z: Tensor, psi: float) -> Tensor:
    """z [N, latent_size] -> truncated styles, one for every layer, [N, L, D]."""
    w = generator.truncate(generator.mapping(z.to(generator.w_mean.device)), psi)
    return w.unsqueeze(1).repeat(1, generator.style_count, 1)


@torch.no_grad()
def draw(generator: Generator, latents: Latents, numbers: list[int]) -> Samples:
    """Samples by number, on the CPU."""
    parts = []
    for chunk in chunks(generator, numbers):
        w, noise = latents(chunk)
        images = to_uint8(generator.synthesis(w, noise)[0])
        parts.append((w.cpu(), [n.cpu() for n in noise], images.cpu()))
    return Samples(
        torch.cat([w for w, _, _ in parts]),
        [torch.cat(layer) for layer in zip(*(noise for _, noise, _ in parts), strict=True)],
        torch.cat([images for _, _, images in parts]),
    )


def chunks(
    generator: Generator, numbers: Sequence[int], step: int | None = None
) -> Iterator[list[int]]:
    """Numbers of samples that are drawn at once, `step` of them or as many as suit the device."""
    step = step or samples_at_once(generator)
    for start in range(0, len(numbers), step):
        yield list(numbers[start : start + step])


def samples_at_once(generator: Generator, beside: int = 0) -> int:
    """How many samples may be drawn at once.

    What they hold is kept within 16 MiB, which a processor's cache has room for, or a thirty-second of a
    GPU's memory; a larger sample goes alone. What is free at the moment plays no part: it must not change a
    result.

    Args:
        beside: numbers that a sample holds beside its features.
    """
    device, memory = generator.w_mean.device, 2**24
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory // 32
    return int(max(1, min(32, memory // (4 * (floats_of_features(generator) + beside)))))


@contextmanager
def side_by_side(device: torch.device, batch_bytes: int) -> Iterator[tuple[Executor, int]]:
    """Threads that work on batches side by side: one for a GPU, and on a CPU one for each core.

    A sum that several threads share comes out differently in its last bit. A batch by a single thread is
    the same whatever the number of threads and processes, and no slower.

    Args:
        batch_bytes: what a batch holds at its most; all together get a quarter of the memory.

    Yields:
        The threads and their number.
    """
    if device.type != "cpu":
        with ThreadPoolExecutor(1) as worker:
            yield worker, 1
        return
    threads = torch.get_num_threads()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = max(1, min(threads, memory // 4 // batch_bytes))
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as workers:
            yield workers, count
    finally:
        torch.set_num_threads(threads)


def floats_of_features(generator: Generator) -> int:
    """Numbers in all feature maps of a sample."""
    sides = zip(generator.feature_channels, generator.noise_shapes, strict=True)
    return sum(channels * height * width for channels, (height, width) in sides)


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
def mean_latent(generator: Generator, seed: int, count: int = 4096) -> Tensor:
    """Mean of `count` mapped latents."""
    seed_everything(seed)
    z = torch.randn(count, generator.config.latent_size, device=generator.w_mean.device)
    return generator.mapping(z).mean(0)


@torch.no_grad()
def feature_deviations(generator: Generator, seed: int, count: int = 100) -> list[Tensor]:
    """Standard deviation of every channel of every feature map [C] over random samples' pixels."""
    sums: list[Tensor] = []
    for numbers in chunks(generator, range(count)):
        z, noise = random_inputs(generator, seed, numbers)
        maps = [n.to(generator.w_mean.device) for n in noise]
        features = generator.synthesis(styles_of(generator, z, 1.0), maps)[1]
        wide = [f.double() for f in features]
        moments = [torch.stack([f.sum((0, 2, 3)), f.square().sum((0, 2, 3))]) for f in wide]
        sums = [a + b for a, b in zip(sums, moments, strict=True)] if sums else moments
    pixels = [count * height * width for height, width in generator.noise_shapes]
    means = [total / n for total, n in zip(sums, pixels, strict=True)]
    return [(square - mean.square()).clamp_min(0).sqrt().float() for mean, square in means]


def draw_sheet(generator: Generator, seed: int, count: int, psi: float = 1.0) -> Picture:
    """A contact sheet of uncurated samples with constant noise, uint8 [H, W, 3]."""
    seed_everything(seed, count)
    z = torch.randn(count, generator.config.latent_size, device=generator.w_mean.device)
    return tile(draw(generator, latents_of_z(generator, z, psi), list(range(count))).images)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, both [B, 3, H, W]."""
    return ((images.float() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)
