"""Files in the export formats: written, tried, and kept only if they are good enough."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.confusion import predicted_miou
from common.errors import UserError
from common.files import atomic_write
from student.export.deploy import Deployed, labels_of
from student.export.formats.base import ExportFormat, SegmentFunction, channels_first
from student.export.formats.onnx import onnx_predictor
from student.export.graph import Traced
from student.export.images import ExportImages
from student.predict.segmenter import MODEL


def write_exact(
    form: ExportFormat, traced: Traced, images: Tensor, path: Path, min_agreement: float
) -> dict[str, float]:
    """Write a file that must agree with PyTorch.

    Args:
        images: uint8 [N, 3, R, R] to compare them on.
        min_agreement: least share of pixels on which they agree, at every size.

    Returns:
        The share at every size, as `agreement` gives it.

    Raises:
        UserError: it is too small; the file is not kept.
    """
    with atomic_write(path) as partial:
        form.write(traced, partial)
        shares = agreement(traced.deployed, form.run(partial), images)
        size, least = min(shares.items(), key=lambda item: item[1])
        if least < min_agreement:
            raise UserError(
                f"{path.name} agrees with PyTorch on only {least:.4%} of the pixels of images of {size}, "
                f"less than export.min_agreement {min_agreement:.4%}; the stage is not finished."
            )
    return shares


def write_inexact(
    form: ExportFormat,
    traced: Traced,
    images: ExportImages,
    classes: int,
    path: Path,
    max_loss: float,
) -> dict[str, Any]:
    """Write a file that may differ from PyTorch, if it loses little mIoU.

    Args:
        path: of the file; the graph in floats, `student.onnx`, lies beside it.
        max_loss: largest loss of mIoU against that graph on the validation images.

    Returns:
        `written`, whether it is there; `said`, a sentence about it; the mIoU of both where it was measured.
    """
    if images.training is None or images.truth is None:
        return {"written": False, "said": f"no {form.title}, since {images.why_none}"}
    validation = (images.validation, images.truth, classes)
    before = predicted_miou(onnx_predictor(path.with_name(MODEL)), *validation)
    with TemporaryDirectory() as temporary:
        made = Path(temporary) / form.file
        form.write(traced, made)
        after = predicted_miou(channels_first(form.run(made)), *validation)
        good = after >= before - max_loss
        if good:
            with atomic_write(path) as partial:
                shutil.copyfile(made, partial)
    change = f"mIoU {after:.4f} on {len(images.truth)} validation images, {before:.4f} in floats"
    said = f"{form.title}: {change}"
    if not good:
        said = f"no {form.title}: {change}; export.int8_max_loss allows {max_loss}"
    return {"written": good, "miou": after, "miou_float": before, "said": said}


@torch.no_grad()
def agreement(deployed: Deployed, other: SegmentFunction, images: Tensor) -> dict[str, float]:
    """Share of pixels on which a file and PyTorch agree, by the images' size `WIDTHxHEIGHT`.

    Args:
        images: uint8 [N, 3, R, R]; enlarged or reduced to each size, fewer of large ones.
    """
    shares = {}
    for height, width in _sizes_to_check(deployed.resolution):
        some = images[: 8 if height * width < 1e6 else 1].float()
        resized = F.interpolate(some, (height, width), mode="bilinear", antialias=True)
        resized = resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        same = labels_of(deployed(resized)) == other(resized)
        shares[f"{width}x{height}"] = float(same.double().mean())
    return shares


def _sizes_to_check(resolution: int) -> tuple[tuple[int, int], ...]:
    """Sizes (H, W) that people use: the training's, others, odd ones, strips, one pixel, large ones."""
    r = resolution
    return (
        (r, r), (2 * r, 3 * r), (3 * r - 1, 2 * r + 1), (r // 2 + 1, r // 2), (1, 4 * r), (7 * r, 5),
        (1, 1), (1500, 2100),
    )  # fmt: skip
