"""Should images that are not square be squeezed for the student, or keep their proportions? Prints JSON.

    python benchmarks/proportions.py --student runs/demo/student

Rendered faces of three times the student's resolution, cropped or mirrored to other proportions. mIoU when
they are squeezed to the square that the student was trained on, when the shorter side becomes its
resolution, when the area stays that of the square, and when the longer side becomes its resolution.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.confusion import confusion_matrix, mean_iou
from datasets.faces import render_faces
from student.base import Student
from student.network import load_student


def scenes(resolution: int, count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Images [N, 3, H, W] and masks [N, H, W] by their proportions."""
    side, part = 3 * resolution, 3 * resolution // 8
    images, masks = render_faces(777, torch.arange(count), side)
    low, high = slice(part, side - part), slice(2 * part, side - 2 * part)
    return {
        "square": (images, masks),
        "3:4, sides cut off": (images[..., low], masks[..., low]),
        "4:3, top and bottom cut off": (images[..., low, :], masks[..., low, :]),
        "2:1, more cut off": (images[..., high, :], masks[..., high, :]),
        "3:2, mirrored beside": (_mirror(images, 2 * part, 0), _mirror(masks, 2 * part, 0)),
        "2:3, mirrored below": (_mirror(images, 0, 2 * part), _mirror(masks, 0, 2 * part)),
    }


def _mirror(x: Tensor, beside: int, below: int) -> Tensor:
    wide = F.pad(x.float().flatten(0, -3)[:, None], (beside, beside, below, below), mode="reflect")
    return wide.view(*x.shape[:-2], *wide.shape[-2:]).to(torch.uint8)


def sizes(height: int, width: int, resolution: int) -> dict[str, tuple[int, int]]:
    """Height and width at which the student gets an image, by rule."""

    def keeping(side: float) -> tuple[int, int]:
        return round(height * resolution / side), round(width * resolution / side)

    return {
        "squeezed": (resolution, resolution),
        "shorter side": keeping(min(height, width)),
        "area": keeping((height * width) ** 0.5),
        "longer side": keeping(max(height, width)),
    }


@torch.no_grad()
def measure(student: Student, images: Tensor, masks: Tensor, size: tuple[int, int]) -> float:
    """mIoU at the images' own size, of masks predicted at another."""
    parts = []
    for chunk in images.split(20):
        resized = F.interpolate(chunk.float(), size, mode="bilinear", antialias=True)
        logits = F.interpolate(student(resized), images.shape[-2:], mode="bilinear")
        parts.append(logits.argmax(1))
    predicted = torch.cat(parts)
    return float(mean_iou(confusion_matrix(masks, predicted, student.classes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", type=Path, required=True, help="a finished student folder")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    student, about = load_student(options.student)
    rows = {}
    for name, (images, masks) in scenes(about["resolution"], options.count).items():
        height, width = images.shape[-2:]
        rows[name] = {
            rule: round(100 * measure(student, images, masks, size), 1)
            for rule, size in sizes(height, width, about["resolution"]).items()
        }
    print(json.dumps({"miou": rows, "images": options.count, **about}, indent=2))


if __name__ == "__main__":
    main()
