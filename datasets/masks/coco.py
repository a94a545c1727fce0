"""COCO's JSON: polygons and run lengths, compressed or not, of many images."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as run_lengths

from datasets.masks.base import FoundMask, MaskFile, Target


def claims(file: MaskFile) -> bool:
    """Whether it is a JSON object with `annotations` and `categories`."""
    return file.json is not None and "annotations" in file.json and "categories" in file.json


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """A mask for every image that has annotations: later ones lie over earlier ones."""
    content = file.json or {}
    names = {c["id"]: str(c["name"]) for c in content["categories"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for image in content["images"]:
        if image["id"] not in by_image:
            continue
        name = target.image_of(image["file_name"], file)
        height, width = int(image["height"]), int(image["width"])
        mask = np.zeros((height, width), np.uint8)
        for annotation in by_image[image["id"]]:
            area = _area(annotation["segmentation"], height, width)
            mask[area] = target.class_of(names[annotation["category_id"]], file)
        yield FoundMask(name, f"{file} ({image['file_name']})", mask)


def _area(segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Pixels of a segmentation, bool [H, W]."""
    if isinstance(segmentation, list):
        codes = run_lengths.merge(run_lengths.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        codes = run_lengths.frPyObjects(segmentation, height, width)
    else:
        codes = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools builds arrays as numpy 1 did
        area = run_lengths.decode(codes).astype(np.bool_)
    if area.shape != (height, width):
        raise ValueError(f"a segmentation of size {area.shape} on an image of {(height, width)}")
    return np.asarray(area)
