"""The samples that a person may draw on: their images and features, made one after another.

Shapes: N = samples, R = side of the image.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.annotations import Samples
from teacher.generators.base import FeatureGenerator, to_device
from teacher.generators.sampling import LatentSource, sample_batch_size, to_uint8
from teacher.packing import packing_of
from teacher.page.choice import profile_of


class Candidates:
    """Samples of a generator with their features.

    They come in order, and those that came stay: another thread may read them meanwhile.

    Args:
        source: gives the latents of samples by number.
        count: N.
        memory: bytes for the features of all; none for a quarter of the machine's memory.

    Attributes:
        images: of the samples that came so far, uint8 [3, R, R] each.
        packs: their features, see `teacher.packing.Packing`.
        profiles: a vector each, by which samples are told to be near or far.
    """

    def __init__(
        self, generator: FeatureGenerator, source: LatentSource, count: int, memory: int | None
    ) -> None:
        self.generator, self.source, self.count = generator, source, count
        if memory is None:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
        self.packing = packing_of(generator, source, count, memory)
        self.images: list[Tensor] = []
        self.packs: list[list[Tensor]] = []
        self.profiles: list[Tensor] = []

    @property
    def ready(self) -> int:
        """How many came so far."""
        return len(self.packs)

    @torch.no_grad()
    def draw_more(self) -> None:
        """Draw the next few, as many as suit the device at once."""
        ready = self.ready
        numbers = range(ready, min(self.count, ready + sample_batch_size(self.generator)))
        latents = self.source(numbers)
        drawn, features = self.generator.synthesise(latents)
        packed = self.packing.pack(features)
        self.images += to_uint8(drawn).cpu()
        packs = [[m[i : i + 1].clone() for m in packed] for i in range(len(numbers))]
        self.profiles += map(profile_of, packs)
        self.packs += packs

    def samples(self, numbers: Sequence[int]) -> Samples:
        """Some of them with the latents that make their features again."""
        latents = to_device(self.source(numbers), "cpu")
        return Samples(latents, torch.stack([self.images[n] for n in numbers]))
