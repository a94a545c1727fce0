"""The real images that a generator learns from, and the distance of generated images to them."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.frechet import Embed, feature_moments, frechet_distance
from common.seeding import seed_everything
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces
from datasets.photographs import Photographs
from teacher.generators.sampling import chunks, to_uint8
from teacher.generators.stylegan2.network import Generator

_CHUNK = 50  # images at a time for the Fréchet distance


class RealImages:
    """Photographs, shuffled anew in every epoch; or rendered faces, each of them only once.

    Args:
        photographs: at the size of the images; none for rendered faces.
        size: side R of the images.
        seed: seed of the order, or of the faces.
    """

    def __init__(self, photographs: Photographs | None, size: int, seed: int) -> None:
        self.photographs, self.size, self.seed = photographs, size, seed

    def batches(
        self, first: int, steps: int, batch_size: int, rank: int, ranks: int, workers: int
    ) -> Iterable[Tensor]:
        """This process's share of the batches from step `first` on, uint8 [batch_size / ranks, 3, R, R]."""
        local = batch_size // ranks
        images: Dataset[Any]
        order: Iterable[list[Any]]
        if self.photographs is not None:
            images = self.photographs
            order = EndlessBatches(len(images), batch_size, first, steps, self.seed, rank, ranks)
        else:
            images = RenderedFaces(self.seed, steps * batch_size, self.size)
            starts = range(first * batch_size + rank * local, steps * batch_size, batch_size)
            order = [list(range(start, start + local)) for start in starts]
        return DataLoader(images, batch_sampler=order, num_workers=workers, collate_fn=_stack)

    def some(self, count: int) -> Iterator[Tensor]:
        """`count` images, or as many as there are, in chunks."""
        if self.photographs is not None:
            count = min(count, len(self.photographs))
        images: Dataset[Any] = self.photographs or RenderedFaces(self.seed, count, self.size)
        keys: list[Any] = [(0, i) if self.photographs else i for i in range(count)]
        for start in range(0, count, _CHUNK):
            yield _stack([images[key] for key in keys[start : start + _CHUNK]])


def _stack(items: list[Any]) -> Tensor:
    """Images [B, 3, R, R]; an item is an image, or an image and its mask."""
    return torch.stack([item if isinstance(item, Tensor) else item[0] for item in items])


class FrechetMeter:
    """Measures the Fréchet distance of a generator's samples to real images.

    Args:
        embed: the encoder.
        real: the real images.
        count: images of each kind.
    """

    def __init__(self, embed: Embed, real: RealImages, count: int) -> None:
        self.embed, self.count = embed, count
        self.real = feature_moments(embed, real.some(count))

    @torch.no_grad()
    def __call__(self, generator: Generator) -> float:
        return frechet_distance(feature_moments(self.embed, self._draw(generator)), self.real)

    def _draw(self, generator: Generator) -> Iterator[Tensor]:
        seed_everything(0)
        for start in range(0, self.count, _CHUNK):
            batch = min(_CHUNK, self.count - start)
            z = torch.randn(batch, generator.config.latent_size, device=generator.device)
            noise = generator.random_noise(batch)
            for some in chunks(generator, range(batch)):
                styles = generator.mapping(z[some])
                yield to_uint8(generator.synthesis(styles, [n[some] for n in noise])[0])
