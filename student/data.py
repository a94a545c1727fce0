"""Parts of data sets, and their pictures in batches while the network trains."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from common.errors import UserError
from common.prefetch import ahead
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.transforms import Augmented, Sample


class Part(Subset[Any]):
    """Some of a data set; asks it for many items at once where it can give them."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        chosen = [self.indices[i] for i in indices]
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(chosen))
        return [self.dataset[i] for i in chosen]


class InMemory(Dataset[Any]):
    """All items of a part, made once."""

    def __init__(self, part: Part) -> None:
        self.items = part.__getitems__([*range(len(part))])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def batches(data: Augmented, order: EndlessBatches, workers: int) -> Iterator[Sample]:
    """Batches in order, made while the network trains on the one before.

    Work processes load and augment; without them a thread does, which may use the device as well.
    """
    if workers:
        loader = DataLoader(data, batch_sampler=order, num_workers=workers, collate_fn=collate)
        try:
            yield from loader
        except UserError as error:  # the loader puts the worker's traceback before its sentence
            raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None
        return
    with ThreadPoolExecutor(1) as thread:
        yield from ahead(thread, lambda keys: collate(data.__getitems__(keys)), order, 1)


def collate(samples: list[Sample]) -> Sample:
    return Sample(*(torch.stack(column) for column in zip(*samples, strict=True)))


def split(sample: Sample, count: int) -> list[Sample]:
    """A batch in `count` parts."""
    columns = (column.chunk(count) for column in sample)
    return [Sample(*part) for part in zip(*columns, strict=True)]
