"""Which samples make up which batch: a pure function of (seed, step), the same for any number of ranks."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from common.seeding import step_seed

Key = tuple[int, int]  # (epoch, index)


class EndlessBatches(Sampler[list[Key]]):
    """This rank's share of every batch from step `first` to `steps`.

    Epoch after epoch the data are permuted anew; a batch may reach into the next epoch. An item is
    named by (epoch, index), so that its augmentation can be drawn from the same two numbers.

    Args:
        length: samples in the data set.
        batch: samples per step over all ranks; divisible by `ranks`.
    """

    def __init__(
        self, length: int, batch: int, first: int, steps: int, seed: int, rank: int, ranks: int
    ) -> None:
        self.length, self.first, self.steps, self.seed = length, first, steps, seed
        self.batch, self.rank, self.local = batch, rank, batch // ranks

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.first, self.steps):
            keys = []
            start = step * self.batch + self.rank * self.local
            for position in range(start, start + self.local):
                if position // self.length != epoch:
                    epoch = position // self.length
                    state = torch.Generator().manual_seed(step_seed(self.seed, epoch))
                    order = torch.randperm(self.length, generator=state)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
