"""Random masks to measure."""

import torch

from common.confusion import confusion_per_image
from datasets.labels import LabelSet
from evaluation.metrics.base import Segmentation

LABELS = LabelSet(("background", "a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


def blobs(count: int, seed: int) -> torch.Tensor:
    """Masks of four classes in smooth areas, int64 [N, 40, 30]."""
    coarse = torch.rand(count, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (40, 30), mode="bilinear").argmax(1)


def segmentation(truth: torch.Tensor, masks: torch.Tensor) -> Segmentation:
    return Segmentation(truth, masks, confusion_per_image(truth, masks, len(LABELS)), LABELS)
