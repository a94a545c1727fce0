"""Masks as labelling tools write them; each file is built as the tool builds it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from datasets.labels import LabelSet, Mask

LABELS = LabelSet(
    ("background", "skin", "hair"), ((0, 0, 0), (250, 200, 150), (90, 50, 20)), 255,
    {"hair": ("fringe", "beard")},
)  # fmt: skip
SIZES = {"0000": (20, 24), "0001": (20, 24)}
SKIN, HAIR = (4, 3, 15, 12), (2, 2, 18, 6)  # left, top, right, bottom of two rectangles, inclusive

Box = tuple[int, int, int, int]


def make_truth() -> Mask:
    """The mask that all formats tell: hair over skin."""
    mask = np.zeros((20, 24), np.uint8)
    mask[3:13, 4:16] = 1
    mask[2:7, 2:19] = 2
    return mask


def corners(box: Box) -> list[list[int]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def labelme(
    shapes: list[dict[str, Any]], name: str = "0000.png", size: tuple[int, int] = (20, 24)
) -> dict[str, Any]:
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
        "imageHeight": size[0], "imageWidth": size[1],
    }  # fmt: skip


def shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def png(array: Mask) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_labelme(folder: Path) -> Path:
    """The truth as LabelMe's shapes."""
    shapes = [shape("skin", corners(SKIN)), shape("beard", [HAIR[:2], HAIR[2:]], "rectangle")]
    path = folder / "0000.json"
    path.write_text(json.dumps(labelme(shapes, "..\\images\\0000.png")))
    return path


def cvat_files(truth: Mask) -> dict[str, bytes]:
    """CVAT's export, by name: colours of its own choice, another order, a label that no pixel has."""
    theirs = {0: (0, 0, 0), 1: (250, 50, 83), 2: (51, 221, 255)}
    painted = np.zeros((20, 24, 3), np.uint8)
    for index, colour in theirs.items():
        painted[truth == index] = colour
    table = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nglasses:1,2,3::\n"
        "fringe:51,221,255::\nskin:250,50,83::\n"
    )
    return {
        "labelmap.txt": table.encode(), "SegmentationClass/0000.png": png(painted),
        "SegmentationObject/0000.png": png(painted), "ImageSets/Segmentation/default.txt": b"0000\n",
    }  # fmt: skip


def write_files(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def coco(truth: Mask) -> dict[str, Any]:
    """COCO's JSON of two images with the same mask: skin is a polygon, hair a code of run lengths.

    The first image's code is compressed, the second one's is not. A third image has no annotations.
    """
    hair = np.asfortranarray((truth == 2).astype(np.uint8))
    compressed: Any = run_lengths.encode(hair)
    runs = np.concatenate([[0], hair.flatten("F"), [1 - hair.flatten("F")[-1]]])
    edges = np.flatnonzero(np.diff(runs)) if runs[1] else np.flatnonzero(np.diff(runs[1:])) + 1
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    x0, y0, x1, y1 = SKIN
    polygon = [x0, y0, x1 + 1, y0, x1 + 1, y1 + 1, x0, y1 + 1]
    codes = {
        "0000.png": {"size": compressed["size"], "counts": compressed["counts"].decode()},
        "0001.png": {"size": [20, 24], "counts": counts},
    }
    annotations = []
    for i, code in enumerate(codes.values()):
        annotations += [
            {"image_id": i, "category_id": 3, "segmentation": [polygon], "iscrowd": 0},
            {"image_id": i, "category_id": 7, "segmentation": code, "iscrowd": 1},
        ]
    names = {7: "hair", 3: "skin", 9: "x"}
    return {
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "images": [
            {"id": i, "file_name": f"images/{name}", "width": 24, "height": 20}
            for i, name in enumerate([*codes, "0007.png"])
        ],
        "annotations": annotations,
    }
