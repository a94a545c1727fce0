"""What a student learns from: the source parted into training and validation, and batches of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from common.errors import UserError
from common.prefetch import prefetch
from common.stage_folder import StageFolder
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.fetch import fetch
from datasets.transforms import Augmented, Sample

# Opens the data set that makes its samples when asked, from its settings and the stage's inputs.
OpenOnline = Callable[[Any, StageFolder], Dataset[Any]]


class Part(Subset[Any]):
    """Some items of a data set."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return fetch(self.dataset, [self.indices[i] for i in indices])


class InMemory(Dataset[Any]):
    """All items of a part, made once."""

    def __init__(self, part: Part) -> None:
        self.items = part.__getitems__([*range(len(part))])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def split_validation(source: Dataset[Any], val_images: int) -> tuple[Part, Part]:
    """The part of a source that is trained on, and its last `val_images` items, for validation."""
    length = len(source)  # type: ignore[arg-type]
    border = length - val_images
    return Part(source, range(border)), Part(source, range(border, length))


def batches(data: Augmented, order: EndlessBatches, workers: int) -> Iterator[Sample]:
    """Batches in order, each made while the network trains on the one before.

    Worker processes load and augment; with 0 workers a thread does, which may use the device as well.
    """
    if workers:
        loader = DataLoader(data, batch_sampler=order, num_workers=workers, collate_fn=collate)
        try:
            yield from loader
        except UserError as error:  # the loader puts the worker's traceback before its sentence
            told = str(error.args[0]).rpartition(f"{UserError.__name__}: ")[2]
            raise UserError(told.strip()) from None
        return
    with ThreadPoolExecutor(1) as thread:
        yield from prefetch(thread, lambda keys: collate(data.__getitems__(keys)), order, 1)


def collate(samples: list[Sample]) -> Sample:
    """Samples as one batch."""
    return Sample(*(torch.stack(column) for column in zip(*samples, strict=True)))


def joined(batch: Sample, other: Sample) -> Sample:
    """Two batches as one."""
    return Sample(*(torch.cat(columns) for columns in zip(batch, other, strict=True)))


def split(batch: Sample, count: int) -> list[Sample]:
    """A batch in `count` parts."""
    columns = (column.chunk(count) for column in batch)
    return [Sample(*part) for part in zip(*columns, strict=True)]


def halved(batch: Sample, step: int) -> Sample:
    """A batch at half its size: the mean of every four pixels, and the label of one, of each in turn."""
    height, width = (side // 2 * 2 for side in batch.mask.shape[-2:])
    image = F.avg_pool2d(batch.image[..., :height, :width].float(), 2).round().to(torch.uint8)
    corner = (..., slice(step % 2, height, 2), slice(step // 2 % 2, width, 2))
    mask, confidence, runners_up = (column[corner] for column in batch[1:4])
    return batch._replace(image=image, mask=mask, confidence=confidence, runners_up=runners_up)
