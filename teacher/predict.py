"""A teacher's label maps of samples whose features are known, and how good they are.

Shapes: N = samples, R = side of the image.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.confusion import confusion_matrix, iou_figures
from datasets.annotations import Samples
from datasets.labels import LabelSet
from datasets.sheets import ImageArray, grid, to_array
from teacher.fewshot import FewShotCNN
from teacher.generators.base import FeatureGenerator
from teacher.generators.sampling import chunks, features_of


class Annotated(NamedTuple):
    """Samples and their masks, uint8 [N, R, R]."""

    samples: Samples
    masks: Tensor


@torch.no_grad()
def predict_samples(generator: FeatureGenerator, teacher: FewShotCNN, samples: Samples) -> Tensor:
    """Teacher's label maps of samples from their true features, uint8 [N, R, R], on the CPU."""
    training, parts = teacher.training, []
    teacher.eval()
    for chunk in chunks(generator, range(len(samples))):
        some = samples.take(chunk)
        features, images = features_of(generator, some.latents), some.images.to(generator.device)
        parts.append(teacher.probabilities(features, images).argmax(1).to(torch.uint8).cpu())
    teacher.train(training)
    return torch.cat(parts)


def evaluate_teacher(
    generator: FeatureGenerator, teacher: FewShotCNN, test: Annotated, labels: LabelSet
) -> dict[str, Any]:
    """IoU figures on annotated samples."""
    predictions = predict_samples(generator, teacher, test.samples)
    return iou_figures(confusion_matrix(test.masks, predictions, len(labels)), labels.names)


def show_teacher(
    generator: FeatureGenerator, teacher: FewShotCNN, test: Annotated, labels: LabelSet
) -> ImageArray:
    """The first test samples beside truth and teacher."""
    few = test.samples.take(range(min(8, len(test.samples))))
    masks = predict_samples(generator, teacher, few)
    return grid(
        {
            "sample": [to_array(image) for image in few.images],
            "truth": [labels.paint(mask.numpy()) for mask in test.masks[: len(few)]],
            "teacher": [labels.paint(mask.numpy()) for mask in masks],
        },
        labels,
    )
