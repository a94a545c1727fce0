"""The student as it is deployed: raw images of any size in, label maps of that size out, in one graph.

Shapes: N = images, C = classes, H, W = pixels of an image.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.base import Student
from student.network import load_student

MODEL_WEIGHTS = "model.safetensors"
MODEL_CONFIG = "config.json"


class Deployed(nn.Module):
    """uint8 RGB images [N, H, W, 3] -> uint8 label maps [N, H, W]; H and W may be anything from 1 on.

    Every image is resized to the square of side `resolution` that the student was trained on, even if that
    changes its proportions: the student has learned where in a square that a face fills each part is.
    Keeping proportions costs 6 to 18 points of mIoU on rendered faces in images of 3:4 to 2:1
    (docs/experiments.md). Images shrink with antialiasing. Logits grow back bilinearly before the best
    class is taken, for smooth edges. Memory stays bounded: of huge images every k-th pixel is taken first,
    down to four times the resolution, and labels beyond twice the resolution are repeated.

    Args:
        student: gives logits.
        resolution: side of the images that it was trained on, in pixels.
        probabilities: give the classes' probabilities, float [N, C, H, W], beside the labels; they are as
            large as the image, four bytes a class and pixel.
    """

    def __init__(self, student: Student, resolution: int, probabilities: bool = False) -> None:
        super().__init__()
        self.student, self.resolution, self.probabilities = student, resolution, probabilities
        self.taken, self.given = max(4 * resolution, 2048), max(2 * resolution, 1024)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        height, width = images.shape[1:3]
        thin = _nearest(images, _at_most(height, self.taken), _at_most(width, self.taken))
        x, square = thin.permute(0, 3, 1, 2).float(), (self.resolution, self.resolution)
        logits = self.student(F.interpolate(x, square, mode="bilinear", antialias=True))
        if self.probabilities:
            shares = F.interpolate(logits, (height, width), mode="bilinear").softmax(1)
            return shares.argmax(1).to(torch.uint8), shares
        size = (_at_most(height, self.given), _at_most(width, self.given))
        labels = F.interpolate(logits, size, mode="bilinear").argmax(1).to(torch.uint8)
        return _nearest(labels, height, width)


def labels_of(given: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """The label maps that a `Deployed` gives, alone or beside probabilities."""
    return given[0] if isinstance(given, tuple) else given


def _at_most(side: int, limit: int) -> int:
    """The lesser of the two; stays a formula where an exporter does not know the numbers yet."""
    return torch.sym_min(side, limit)  # type: ignore[return-value]


def _nearest(x: Tensor, height: int, width: int) -> Tensor:
    """[N, H, W, ...] -> [N, height, width, ...]: the pixels under the new ones' centres.

    In whole numbers, which all runtimes round alike.
    """
    for axis, (old, new) in enumerate(zip(x.shape[1:3], (height, width), strict=True), 1):
        centres = 2 * torch.arange(new, device=x.device) + 1
        x = x.index_select(axis, centres * old // (2 * new))
    return x


def from_pretrained(folder: str | Path) -> Deployed:
    """An exported student in PyTorch again; its `.student` gives logits and can be trained on.

    Args:
        folder: what the stage `export` wrote; `model.safetensors` and `config.json` are read.

    Raises:
        UserError: these files are missing or damaged.
    """
    student, about = load_student(Path(folder), MODEL_CONFIG, MODEL_WEIGHTS)
    return Deployed(student, about["resolution"]).eval()
