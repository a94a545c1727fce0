"""Every model's masks of a test set, and the time that each model takes for an image.

Shapes: N = images, H, W = pixels.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from datasets.sheets import batch_size_for
from datasets.test_sets import Truth
from evaluation.rows import TEACHERS

# Indices of a test set's images -> their masks, uint8 [N, H, W]. By index, since the teacher takes the
# latents of an image, not its pixels.
PredictIndices = Callable[[list[int]], Tensor]

_BLOCK, _WARM_UP = 5, 3  # calls


@dataclass(frozen=True)
class SetPredictions:
    """A test set with the masks that every model predicts.

    Attributes:
        images: uint8 [N, 3, H, W].
        truth: class indices, uint8 [N, H, W].
        about: further entries for the set in `comparison.json`.
        masks: of every model, as `truth`.
        seconds: of every model for one image: the median over several, one at a time.
    """

    images: Tensor
    truth: Tensor
    about: Mapping[str, Any]
    masks: dict[str, Tensor]
    seconds: dict[str, float]

    def first(self, count: int) -> "SetPredictions":
        """The first `count` images alone."""
        masks = {name: mask[:count] for name, mask in self.masks.items()}
        return SetPredictions(
            self.images[:count], self.truth[:count], self.about, masks, self.seconds
        )

    def with_teacher(
        self, name: str, masks: Tensor, seconds: float, about: Mapping[str, Any]
    ) -> "SetPredictions":
        """The same with a further teacher, whose row stands before all rows but other teachers'."""
        order = sorted(
            {**self.masks, name: masks}.items(), key=lambda item: item[0] not in TEACHERS
        )
        return SetPredictions(
            self.images, self.truth, {**self.about, **about}, dict(order),
            {**self.seconds, name: seconds},
        )  # fmt: skip


def predict_set(
    test_set: Truth, models: Mapping[str, PredictIndices], timed_images: int
) -> SetPredictions:
    """Run every model on all images of a test set in batches, then on some images one at a time.

    Args:
        test_set: images and ground truth.
        models: by the name of their row.
        timed_images: how many images each model is timed on.
    """
    count, size = len(test_set.images), batch_size_for(test_set.images)
    batches = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
    masks = {
        name: torch.cat([predict(batch) for batch in batches]) for name, predict in models.items()
    }
    seconds = seconds_per_image(models, count, timed_images)
    return SetPredictions(test_set.images, test_set.masks, test_set.about, masks, seconds)


def seconds_per_image(
    models: Mapping[str, PredictIndices], count: int, timed_images: int
) -> dict[str, float]:
    """Median seconds of every model for one of `count` images.

    The models take turns in blocks of a few images, so that other load on the machine slows down all of
    them. The first calls of a block are not timed: threads of the model before may still be spinning.
    """
    taken: dict[str, list[float]] = {name: [] for name in models}
    for first in range(0, timed_images, _BLOCK):
        for name, predict in models.items():
            for i in range(first - _WARM_UP, min(first + _BLOCK, timed_images)):
                begun = time.perf_counter()
                predict([i % count])  # ends with a copy to the CPU, which waits for the device
                if i >= first:
                    taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


def hardware() -> str:
    """The hardware that the times are measured on; exported models run on the CPU."""
    cpu = f"CPU, {torch.get_num_threads()} threads"
    if PartialState().device.type == "cuda":
        return f"{torch.cuda.get_device_name()} (exported: {cpu})"
    return cpu
