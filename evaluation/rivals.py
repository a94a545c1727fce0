"""Other exported segmenters as rows of the comparison: ONNX files with our student's input and output."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from datasets.labels import LabelSet
from student.export.formats.onnx import onnx_predictor
from student.network import Predict

RIVAL = "rivals."  # prefix of the inputs that are such files


def open_rival(path: Path, labels: LabelSet) -> Predict:
    """A segmenter from an ONNX file; its output is checked at every call.

    Raises:
        UserError: the file cannot be read, or has another input.
    """
    return partial(_predict, onnx_predictor(path), path, labels)


def try_rival(path: Path, labels: LabelSet) -> None:
    """Run a segmenter once, on two images of noise.

    Raises:
        UserError: the file cannot be read, or its input or output is not as ours.
    """
    noise = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    open_rival(path, labels)(noise.to(torch.uint8))


def _predict(predict: Predict, path: Path, labels: LabelSet, images: Tensor) -> Tensor:
    """Masks of images [N, 3, H, W], checked.

    Raises:
        UserError: the segmenter does not run on these images, or its output is no mask of these classes.
    """
    try:
        masks = predict(images)
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise UserError(
            f"{path} does not run on images {list(images.shape)} as N, RGB, H, W ({error}); export it "
            "for any number of images of any size."
        ) from error
    if masks.shape != (len(images), *images.shape[2:]):
        raise UserError(
            f"{path} returns {list(masks.shape)} for images {list(images.shape)}; export it so that it "
            "returns a class index for each pixel, [N, H, W]."
        )
    if int(masks.max()) >= len(labels):
        raise UserError(
            f"{path} predicts class {int(masks.max())}; the run has {len(labels)}: 0 {labels.names[0]} to "
            f"{len(labels) - 1} {labels.names[-1]}. Train it on these."
        )
    return masks
