"""The samples that a person may draw on: their images and features, made one after another.

Shapes: N = samples, R = side of the image.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.annotations import Samples
from teacher.generators.base import FeatureGenerator, to_device
from teacher.generators.choosing import Look, Parts, PixelFeatures
from teacher.generators.sampling import LatentSource, sample_batch_size, to_uint8
from teacher.packing import PLANNED_BY, plan_packing

_ENOUGH = 200  # samples of which parts are found; later ones are seen by these


class Candidates:
    """Samples of a generator with their features.

    The first few are there from the beginning. The others come in order, and those that came stay: another
    thread may read them meanwhile.

    Args:
        source: gives the latents of samples by number.
        count: N.
        memory: bytes for the features of all; none for a quarter of the machine's memory.

    Attributes:
        images: of the samples that came so far, uint8 [3, R, R] each.
        packs: their features, see `teacher.packing.Packing`.
        looks: what they look like, by which samples are told to be near or far.
    """

    @torch.no_grad()
    def __init__(
        self, generator: FeatureGenerator, source: LatentSource, count: int, memory: int | None
    ) -> None:
        self.generator, self.source, self.count = generator, source, count
        if memory is None:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
        first = [generator.synthesise(source([n])) for n in range(min(PLANNED_BY, count))]
        images, features = zip(*first, strict=True)
        maps = [torch.cat(parts) for parts in zip(*features, strict=True)]
        self.packing = plan_packing(maps, generator.features, count, memory)
        self.images: list[Tensor] = []
        self.packs: list[list[Tensor]] = []
        self.looks: list[Look] = []
        self._coarse = PixelFeatures(generator.resolution)
        self._pixels: list[Tensor] | None = []  # coarse ones of all samples, until they are enough
        self._parts: Parts | None = None
        self._keep(torch.cat(images), self.packing.pack(maps))

    @property
    def ready(self) -> int:
        """How many came so far."""
        return len(self.looks)

    @torch.no_grad()
    def draw_more(self) -> None:
        """Draw the next few, as many as suit the device at once."""
        ready = self.ready
        numbers = range(ready, min(self.count, ready + sample_batch_size(self.generator)))
        images, features = self.generator.synthesise(self.source(numbers))
        self._keep(images, self.packing.pack(features))

    def _keep(self, images: Tensor, packed: Sequence[Tensor]) -> None:
        self.images += to_uint8(images).cpu()
        self.packs += [[m[i : i + 1].clone() for m in packed] for i in range(len(images))]
        pixels = self._coarse(packed)
        self._parts = self._parts or Parts(pixels)  # of the first few, for now
        self.looks += map(self._parts.look_at, pixels)
        if self._pixels is None:
            return
        self._pixels.append(pixels.half())
        if self.ready >= min(self.count, _ENOUGH):
            every = torch.cat(self._pixels).float()
            self._parts, self._pixels = Parts(every), None
            self.looks = [self._parts.look_at(sample) for sample in every]

    def samples(self, numbers: Sequence[int]) -> Samples:
        """Some of them with the latents that make their features again."""
        latents = to_device(self.source(numbers), "cpu")
        return Samples(latents, torch.stack([self.images[n] for n in numbers]))
