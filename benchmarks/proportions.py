"""Should a student see pictures that are not square squeezed, or in their proportions? Prints JSON.

    python benchmarks/proportions.py --student runs/demo/student

Rendered faces of three times the student's resolution, cut or continued to other proportions: mIoU where
they are squeezed to the square that the student has learned, where the shorter side becomes its
resolution, where the area stays that of the square, and where the longer side becomes its resolution.
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
from student.network import Student, load_student


def scenes(resolution: int, count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pictures [N, 3, H, W] and masks [N, H, W] by their proportions."""
    side, part = 3 * resolution, 3 * resolution // 8
    pictures, masks = render_faces(777, torch.arange(count), side)
    low, high = slice(part, side - part), slice(2 * part, side - 2 * part)
    return {
        "square": (pictures, masks),
        "3:4, sides cut off": (pictures[..., low], masks[..., low]),
        "4:3, top and bottom cut off": (pictures[..., low, :], masks[..., low, :]),
        "2:1, more cut off": (pictures[..., high, :], masks[..., high, :]),
        "3:2, mirrored beside": (_mirror(pictures, 2 * part, 0), _mirror(masks, 2 * part, 0)),
        "2:3, mirrored below": (_mirror(pictures, 0, 2 * part), _mirror(masks, 0, 2 * part)),
    }


def _mirror(x: Tensor, beside: int, below: int) -> Tensor:
    wide = F.pad(x.float().flatten(0, -3)[:, None], (beside, beside, below, below), mode="reflect")
    return wide.view(*x.shape[:-2], *wide.shape[-2:]).to(torch.uint8)


def sizes(height: int, width: int, resolution: int) -> dict[str, tuple[int, int]]:
    """What the student is shown, by the rule."""

    def keeping(side: float) -> tuple[int, int]:
        return round(height * resolution / side), round(width * resolution / side)

    return {
        "squeezed": (resolution, resolution),
        "shorter side": keeping(min(height, width)),
        "area": keeping((height * width) ** 0.5),
        "longer side": keeping(max(height, width)),
    }


@torch.no_grad()
def measure(student: Student, pictures: Tensor, masks: Tensor, size: tuple[int, int]) -> float:
    """mIoU at the pictures' own size, of what the student says at another."""
    said = []
    for chunk in pictures.split(20):
        shown = F.interpolate(chunk.float(), size, mode="bilinear", antialias=True)
        logits = F.interpolate(student(shown), pictures.shape[-2:], mode="bilinear")
        said.append(logits.argmax(1))
    classes = student.classify.out_channels
    return float(mean_iou(confusion_matrix(masks, torch.cat(said), classes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", type=Path, required=True, help="a finished student folder")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    student, about = load_student(options.student)
    rows = {}
    for name, (pictures, masks) in scenes(about["resolution"], options.count).items():
        height, width = pictures.shape[-2:]
        rows[name] = {
            rule: round(100 * measure(student, pictures, masks, size), 1)
            for rule, size in sizes(height, width, about["resolution"]).items()
        }
    print(json.dumps({"miou": rows, "pictures": options.count, **about}, indent=2))


if __name__ == "__main__":
    main()
