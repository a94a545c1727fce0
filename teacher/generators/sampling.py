"""Draw samples from a generator, as many at once as suit the device.

Sample number i of a seed is a pure function of (generator, seed, i). Samples of given z have the
generator's constant noise inputs.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError, brief
from common.seeding import seed_everything
from datasets.annotations import Samples
from datasets.sheets import ImageArray, tile
from teacher.generators.base import FeatureGenerator, Latents, class_count, join, to_device

LatentSource = Callable[[Sequence[int]], Latents]  # numbers of samples -> latents, on the device


def latents_of_seed(
    generator: FeatureGenerator, seed: int, psi: float, number: int | None = None
) -> LatentSource:
    """Samples of a seed: every number has inputs of its own.

    Args:
        number: class of all samples; none for those that the seed draws.
    """
    return lambda numbers: generator.latents(
        _of_class(generator.random_inputs(seed, numbers), number), psi
    )


def latents_of_z(
    generator: FeatureGenerator, z: Tensor, psi: float, number: int | None = None
) -> LatentSource:
    """Samples of the given z [N, z_size], by their row.

    Args:
        number: class of all samples; none for classes in turns.
    """

    def source(numbers: Sequence[int]) -> Latents:
        inputs = generator.inputs_of_z(z[list(numbers)])
        if "class" in inputs:
            inputs["class"] = torch.tensor(list(numbers)) % class_count(generator)
        return generator.latents(_of_class(inputs, number), psi)

    return source


def _of_class(inputs: Latents, number: int | None) -> Latents:
    """The inputs with one class for all samples, where one is given."""
    if number is None:
        return inputs
    return inputs | {"class": torch.full((len(inputs["z"]),), number)}


@torch.no_grad()
def draw(generator: FeatureGenerator, source: LatentSource, numbers: Sequence[int]) -> Samples:
    """Samples by number, on the CPU."""
    latents, images = [], []
    for chunk in chunks(generator, numbers):
        part = source(chunk)
        images.append(to_uint8(generator.synthesise(part)[0]).cpu())
        latents.append(to_device(part, "cpu"))
    return Samples(join(latents), torch.cat(images))


@torch.no_grad()
def features_of(generator: FeatureGenerator, latents: Latents) -> list[Tensor]:
    """Feature maps of stored latents [C, r, r each], on the generator's device."""
    return generator.synthesise(to_device(latents, generator.device))[1]


def chunks(
    generator: FeatureGenerator, numbers: Sequence[int], step: int | None = None
) -> Iterator[list[int]]:
    """Numbers of samples that are drawn at once, `step` of them or as many as suit the device."""
    step = step or sample_batch_size(generator)
    for start in range(0, len(numbers), step):
        yield list(numbers[start : start + step])


def sample_batch_size(generator: FeatureGenerator, beside: int = 0) -> int:
    """How many samples may be drawn at once.

    What they hold is kept within 16 MiB, which a processor's cache has room for, or a thirty-second of a
    GPU's memory; a larger sample goes alone. What is free at the moment plays no part: it must not change a
    result.

    Args:
        beside: numbers that a sample holds beside its features.
    """
    device, memory = generator.device, 2**24
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory // 32
    return int(max(1, min(32, memory // (4 * (feature_floats(generator) + beside)))))


@contextmanager
def batch_workers(device: torch.device, batch_bytes: int) -> Iterator[tuple[Executor, int]]:
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


def feature_floats(generator: FeatureGenerator) -> int:
    """Numbers in all feature maps of a sample."""
    return sum(channels * side**2 for channels, side in generator.features.values())


def read_z(path: Path, size: int) -> Tensor:
    """z [N, size] from a .npy file; no pickled objects are read.

    Raises:
        UserError: the file is missing, damaged, or of another shape or type, or its values are not finite.
    """
    try:
        with path.open("rb") as handle:
            magic = handle.read(6)
        if magic != b"\x93NUMPY":
            zipped = magic[:4] == b"PK\3\4"
            raise UserError(
                f"{path} is {'an .npz' if zipped else 'no .npy'} file; save z by numpy.save, as float32 "
                f"[N, {size}]."
            )
        # Mapped, an array that the file only claims to hold is refused before there is memory for it.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or brief(error)}).") from error
    except UserError:
        raise
    except Exception as error:  # a header is parsed as Python, which raises anything
        raise UserError(
            f"{path} is a damaged .npy file, or one of other things than numbers "
            f"({_without_advice(error)}); save z again, as float32 [N, {size}]."
        ) from error
    if array.ndim != 2 or array.shape[1] != size or not len(array) or array.dtype.kind != "f":
        raise UserError(
            f"{path} must hold float32 [N, {size}], z of this generator; it holds {array.dtype} "
            f"{list(array.shape)}."
        )
    with np.errstate(over="ignore"):
        z = array.astype(np.float32)
    if wrong := np.flatnonzero(~np.isfinite(z).all(1)).tolist():
        raise UserError(f"{path} holds a value that is no finite number in row {wrong[0]}.")
    return torch.from_numpy(z)


def _without_advice(error: Exception) -> str:
    """What numpy says, but not how to read pickles after all."""
    told = brief(error)
    return "Python objects" if "pickle" in told or "Python objects" in told else told.rstrip(".")


def z_of_seeds(generator: FeatureGenerator, seeds: list[int]) -> Tensor:
    """The z that NVIDIA's tools draw for these seeds, so that their published faces come again."""
    size = generator.z_size
    rows = [np.random.RandomState(seed).randn(size) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float()


@torch.no_grad()
def feature_stds(generator: FeatureGenerator, seed: int, count: int = 100) -> list[Tensor]:
    """Standard deviation of every channel of every feature map [C] over random samples' pixels."""
    sums: list[Tensor] = []
    source = latents_of_seed(generator, seed, 1.0)
    for numbers in chunks(generator, range(count)):
        wide = [f.double() for f in generator.synthesise(source(numbers))[1]]
        moments = [torch.stack([f.sum((0, 2, 3)), f.square().sum((0, 2, 3))]) for f in wide]
        sums = [a + b for a, b in zip(sums, moments, strict=True)] if sums else moments
    pixels = [count * side**2 for _, side in generator.features.values()]
    means = [total / n for total, n in zip(sums, pixels, strict=True)]
    return [(square - mean.square()).clamp_min(0).sqrt().float() for mean, square in means]


def draw_sheet(
    generator: FeatureGenerator,
    seed: int,
    count: int,
    psi: float = 1.0,
    columns: int | None = None,
) -> ImageArray:
    """A contact sheet of uncurated samples with constant noise, uint8 [H, W, 3].

    Args:
        columns: of the sheet; none for a nearly square one.
    """
    seed_everything(seed, count)
    z = torch.randn(count, generator.z_size, device=generator.device)
    return tile(draw(generator, latents_of_z(generator, z, psi), range(count)).images, columns)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, both [B, 3, H, W]."""
    return ((images.float() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)
