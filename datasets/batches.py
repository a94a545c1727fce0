"""The samples of each batch: a pure function of (seed, step), for any number of processes."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from common.seeding import step_seed

Key = tuple[int, int]  # (epoch, index)


class EndlessBatches(Sampler[list[Key]]):
    """This process's share of every batch from step `first` to `steps`.

    Each epoch has a new permutation; a batch may reach into the next epoch. A key is (epoch, index), so
    that the augmentation of a sample can be drawn from the same two numbers.

    Args:
        length: samples in the data set.
        batch_size: samples per step over all processes; divisible by `ranks`.
        first: the first step.
        steps: the step before which it ends.
        seed: seed of the permutations.
        rank: number of this process.
        ranks: number of processes.
    """

    def __init__(
        self, length: int, batch_size: int, first: int, steps: int, seed: int, rank: int, ranks: int
    ) -> None:
        self.length, self.first, self.steps, self.seed = length, first, steps, seed
        self.batch_size, self.rank, self.local = batch_size, rank, batch_size // ranks

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.first, self.steps):
            keys = []
            start = step * self.batch_size + self.rank * self.local
            for position in range(start, start + self.local):
                if position // self.length != epoch:
                    epoch = position // self.length
                    state = torch.Generator().manual_seed(step_seed(self.seed, epoch))
                    order = torch.randperm(self.length, generator=state)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
