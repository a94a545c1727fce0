"""Test sets for the comparison: a user's images with true masks.

Two layouts are read. Plain: a folder of images and one of masks with the same names. CelebAMask-HQ as it is
published: one binary PNG for every part of a face (`datasets/face_parts.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError, printable
from datasets.face_parts import FaceParts
from datasets.image_files import centre_square, centre_square_mask, find_images, open_image
from datasets.labels import LabelSet, Mask, read_mask
from datasets.mask_images import Palette


@dataclass(frozen=True)
class TestSet:
    """Where a test set lies.

    Args:
        images: folder of images.
        masks: folder of masks with the same names as the images; palette, grey or RGB PNG.
        labels: label set of these masks; none for that of the run.
        merges: label set with the run's classes whose `merges` map the classes of the masks to them; none
            for the run's own.
        layout: arrangement of the masks: `plain`, or `celebamask` where `masks` is CelebAMask-HQ's folder
            of parts, as in 0/00000_hair.png.
        first: number of the first image to take; names must then be numbers. None for no limit.
        last: number of the last image to take, included; names must then be numbers. None for no limit.
        palette: whether masks that are palette images mean their indices or their colours; `auto` finds out
            where it can only be one.
    """

    __test__ = False  # pytest: not a test

    images: Path
    masks: Path
    labels: Path | None = None
    merges: Path | None = None
    layout: Literal["plain", "celebamask"] = "plain"
    first: int | None = None
    last: int | None = None
    palette: Palette = "auto"

    @property
    def paths(self) -> dict[str, Path]:
        """The paths that are given, by field."""
        every = {name: getattr(self, name) for name in ("images", "masks", "labels", "merges")}
        return {name: path for name, path in every.items() if path is not None}

    def without_paths(self) -> "TestSet":
        """The same without paths: stages know their inputs by content, so that data may move."""
        return self.at(dict.fromkeys(self.paths, Path()))

    def at(self, paths: dict[str, Path]) -> "TestSet":
        """The same with other paths."""
        changed: dict[str, Any] = dict(paths)
        return replace(self, **changed)


@dataclass(frozen=True)
class Truth:
    """A test set in memory.

    Args:
        images: uint8 [N, 3, R, R].
        masks: class indices, uint8 [N, R, R].
        about: how it was read, for the record.
    """

    images: Tensor
    masks: Tensor
    about: dict[str, Any]


def read_test_set(name: str, spec: TestSet, labels: LabelSet, size: int) -> Truth:
    """Read a test set with its masks in the classes of `labels`; prints in how many images each class is.

    Args:
        name: its name, for the progress bar.
        size: side R that images and masks are cropped and resized to.

    Raises:
        UserError: an image has no mask, a mask is wrong or has other proportions than its image, or a class
            has no place in the label set.
    """
    theirs = LabelSet.load(spec.labels) if spec.labels else labels
    merged = LabelSet.load(spec.merges) if spec.merges else labels
    if merged.names != labels.names:
        raise UserError(f"{spec.merges} has other classes than the run; it may differ in merges.")
    table = merged.table(theirs.names) if spec.labels else np.arange(256, dtype=np.uint8)

    images, masks = [], []
    parts = FaceParts(spec.masks, theirs) if spec.layout == "celebamask" else None
    for stem, file in tqdm(sorted(_select(spec).items()), desc=name, unit="img", leave=False):
        image = open_image(file)
        if parts:
            source, mask = f"of the parts of {stem}", parts.paint(int(stem))
        else:
            path = _find_mask(spec.masks, stem)
            source, mask = str(path), read_mask(path, theirs, None, spec.palette)
        _check_proportions(mask, source, image.size, file)
        images.append(centre_square(image, size))
        masks.append(torch.from_numpy(centre_square_mask(table[mask], size)))
    truth = torch.stack(masks)
    if parts:
        parts.tell(name, table)
    _tell_classes(name, truth, labels)
    about = {
        "images": len(images),
        "resolution": size,
        "labels": spec.labels.stem if spec.labels else "the run's",
        "map": describe_map(theirs, merged) if spec.labels else "none",
        "split": "all" if spec.first is None and spec.last is None else f"{spec.first}-{spec.last}",
    }
    return Truth(torch.stack(images), truth, about)


def _check_proportions(mask: Mask, source: str, size: tuple[int, int], image: Traversable) -> None:
    """Check that a mask is of its whole image, at whatever size.

    Args:
        size: width and height of the image.

    Raises:
        UserError: it has other proportions: it was turned, squeezed or cropped.
    """
    small, large = sorted([mask.shape[::-1], size])
    # Each side may have been rounded when the smaller one was made.
    if not any(abs(small[i] - large[i] * small[1 - i] / large[1 - i]) <= 1 for i in range(2)):
        raise UserError(
            f"mask {source} is {mask.shape[1]}x{mask.shape[0]} pixels but its image {image} is "
            f"{size[0]}x{size[1]}, upright by its EXIF data: their proportions differ; save both turned "
            "and cropped alike."
        )


def _tell_classes(name: str, masks: Tensor, labels: LabelSet) -> None:
    """Print in how many masks [N, R, R] each class is, and warn of those that are in none."""
    counts = [int((masks == i).flatten(1).any(1).sum()) for i in range(len(labels))]
    shown = ", ".join(f"{c} {n}" for c, n in zip(labels.names, counts, strict=True))
    print(printable(f"{name}: {len(masks)} images; images that show each class: {shown}"))
    for class_name, count in zip(labels.names, counts, strict=True):
        if not count:
            print(
                printable(
                    f"warning: no image of {name} shows {class_name}; it is not measured there"
                )
            )


def _select(spec: TestSet) -> Mapping[str, Traversable]:
    """The images to take, by name."""
    files = find_images(spec.images)
    if spec.first is not None or spec.last is not None:
        low, high = spec.first or 0, 10**9 if spec.last is None else spec.last
        files = {n: f for n, f in files.items() if n.isdecimal() and low <= int(n) <= high}
        if not files:
            raise UserError(f"{spec.images} has no images numbered {low} to {high}.")
    if spec.layout == "celebamask" and (named := [n for n in files if not n.isdecimal()]):
        raise UserError(
            f"{spec.images}: {named[0]} is no number, as names of CelebAMask-HQ's images are; take it "
            "away, or say layout: plain."
        )
    return files


def describe_map(theirs: LabelSet, ours: LabelSet) -> str:
    """Which of their classes became which of ours, where the names differ."""
    table = ours.table(theirs.names)
    said = []
    for i, name in enumerate(ours.names):
        taken = [n for k, n in enumerate(theirs.names) if table[k] == i and n != name]
        if taken:
            said.append(f"{', '.join(taken)} as {name}")
    if ignored := [n for k, n in enumerate(theirs.names) if table[k] == ours.ignore_index]:
        said.append(f"{', '.join(ignored)} ignored")
    return "; ".join(said) or "equal names"


def _find_mask(folder: Path, stem: str) -> Path:
    """The mask of an image: of the same name, or of the same number with other leading zeros."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of masks; check the option masks, or unpack it.")
    for name in (stem, stem.zfill(5), stem.lstrip("0") or "0"):
        for ending in (".png", ".PNG"):
            if (path := folder / f"{name}{ending}").exists():
                return path
    raise UserError(f"{folder} has no mask {stem}.png; draw it, or take its image away.")
