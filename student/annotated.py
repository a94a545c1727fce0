"""Annotated samples among the pseudo-labelled ones: the few images whose masks are known to be right."""

from typing import Any

import torch
from torch import Tensor

from common.stage_folder import StageFolder, artifact_hash
from datasets import Dataset
from datasets.annotations import read_all_annotated
from datasets.fetch import fetch
from datasets.labels import LabelSet
from datasets.pseudo_labels import Labelled


class WithAnnotated(Dataset[Any]):
    """A data set of `Labelled` items, and behind them annotated samples, as often as their share asks.

    Args:
        source: the data set.
        images: of the annotated samples, uint8 [N, 3, H, W].
        masks: theirs, uint8 [N, H, W].
        share: so many annotated samples for each of the other items.
    """

    def __init__(self, source: Dataset[Any], images: Tensor, masks: Tensor, share: float) -> None:
        self.source, self.images, self.masks = source, images, masks
        self.known = len(source)  # type: ignore[arg-type]
        self.count = self.known + round(self.known * share)
        self.planes = len(source[0].runners_up)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Labelled:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Labelled]:
        labelled = iter(fetch(self.source, [i for i in indices if i < self.known]))
        return [next(labelled) if i < self.known else self._annotated(i) for i in indices]

    def _annotated(self, index: int) -> Labelled:
        """An annotated sample, certain everywhere; they take turns."""
        number = (index - self.known) % len(self.images)
        mask = self.masks[number]
        others = mask.new_zeros(self.planes, *mask.shape)
        return Labelled(self.images[number], mask, torch.full_like(mask, 255), others)


def with_annotated(
    training: Dataset[Any], share: float, labels: LabelSet, folder: StageFolder
) -> Dataset[Any]:
    """The data set with the samples of the inputs `annotations` among it; itself where their share is 0.

    Raises:
        UserError: the samples cannot be read, or belong to another generator than the input `generator`.
    """
    if not share:
        return training
    generator = artifact_hash(folder.inputs["generator"])
    samples, masks = read_all_annotated(folder.inputs, labels, generator)
    return WithAnnotated(training, samples.images, masks, share)
