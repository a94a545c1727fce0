"""Other people's exported segmenters beside the student: ONNX files that take and give what ours does."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from datasets.labels import LabelSet
from student.export.stage import onnx_predictor
from student.network import Predict

RIVAL = "rivals."  # before the name of an input that is one


def open_rival(path: Path, labels: LabelSet) -> Predict:
    """Another's segmenter, which says what is wrong with it when it is asked.

    Raises:
        UserError: it cannot be read, or takes something else.
    """
    return partial(_ask, onnx_predictor(path), path, labels)


def try_rival(path: Path, labels: LabelSet) -> None:
    """Ask it for two pictures of noise.

    Raises:
        UserError: it cannot be read, or does not say what it should.
    """
    noise = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    open_rival(path, labels)(noise.to(torch.uint8))


def _ask(predict: Predict, path: Path, labels: LabelSet, pictures: Tensor) -> Tensor:
    """What another's segmenter says, checked.

    Raises:
        UserError: it does not take these pictures, or does not say a class for every pixel.
    """
    try:
        masks = predict(pictures)
    except Exception as error:  # ONNX Runtime has no common class for them
        raise UserError(
            f"{path} does not take pictures {list(pictures.shape)} as N, RGB, H, W ({error}); export it "
            "for any number of pictures of any size."
        ) from error
    if masks.shape != (len(pictures), *pictures.shape[2:]):
        raise UserError(
            f"{path} gives {list(masks.shape)} for pictures {list(pictures.shape)}; a segmenter of this "
            "comparison gives the number of a class for each pixel, [N, H, W]."
        )
    if int(masks.max()) >= len(labels):
        raise UserError(
            f"{path} says class {int(masks.max())}; the run has {len(labels)}: 0 {labels.names[0]} to "
            f"{len(labels) - 1} {labels.names[-1]}."
        )
    return masks
