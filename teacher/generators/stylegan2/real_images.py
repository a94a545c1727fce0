"""The pictures that a generator learns from, and how far its own are from them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.frechet import Encode, feature_moments, frechet_distance
from common.seeding import seed_everything
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces
from datasets.photographs import Photographs
from teacher.generators.sampling import chunks, to_uint8
from teacher.generators.stylegan2.network import Generator

_CHUNK = 50  # pictures at once for the Fréchet distance


class RealPictures:
    """Photographs in ever new order, or a stream of rendered faces that never come again.

    Args:
        source: a folder or zip file of photographs; none for rendered faces.
        size: their side R.
        seed: of the order, or of the faces.
        packed: where photographs are kept once they are cropped and resized.
    """

    def __init__(self, source: Path | None, size: int, seed: int, packed: Path) -> None:
        self.seed, self.size = seed, size
        self.photographs = Photographs(source, size, packed) if source else None

    def batches(
        self, first: int, steps: int, batch: int, rank: int, ranks: int, workers: int
    ) -> Iterable[Tensor]:
        """This rank's share of the batches from step `first` on, uint8 [batch / ranks, 3, R, R]."""
        local = batch // ranks
        pictures: Dataset[Any]
        order: Iterable[list[Any]]
        if self.photographs is not None:
            pictures = self.photographs
            order = EndlessBatches(
                len(self.photographs), batch, first, steps, self.seed, rank, ranks
            )
        else:
            pictures = RenderedFaces(self.seed, steps * batch, self.size)
            starts = range(first * batch + rank * local, steps * batch, batch)
            order = [list(range(start, start + local)) for start in starts]
        return DataLoader(pictures, batch_sampler=order, num_workers=workers, collate_fn=_stack)

    def some(self, count: int) -> Iterator[Tensor]:
        """`count` pictures, or as many as there are, in chunks."""
        if self.photographs is not None:
            count = min(count, len(self.photographs))
        pictures: Dataset[Any] = self.photographs or RenderedFaces(self.seed, count, self.size)
        keys: list[Any] = [(0, i) if self.photographs else i for i in range(count)]
        for start in range(0, count, _CHUNK):
            yield _stack([pictures[key] for key in keys[start : start + _CHUNK]])


def _stack(items: list[Any]) -> Tensor:
    """Pictures, where an item may be a picture or a picture and its mask."""
    return torch.stack([item if isinstance(item, Tensor) else item[0] for item in items])


class FrechetMeter:
    """Distance of a generator's samples from `count` real pictures, in the features of a network."""

    def __init__(self, encode: Encode, real: RealPictures, count: int) -> None:
        self.encode, self.count = encode, count
        self.real = feature_moments(encode, real.some(count))

    @torch.no_grad()
    def __call__(self, generator: Generator) -> float:
        return frechet_distance(feature_moments(self.encode, self._draw(generator)), self.real)

    def _draw(self, generator: Generator) -> Iterator[Tensor]:
        seed_everything(0)
        for start in range(0, self.count, _CHUNK):
            batch = min(_CHUNK, self.count - start)
            z = torch.randn(batch, generator.config.latent_size, device=generator.w_mean.device)
            noise = generator.random_noise(batch)
            for some in chunks(generator, range(batch)):
                yield to_uint8(generator(z[some], [n[some] for n in noise])[0])
