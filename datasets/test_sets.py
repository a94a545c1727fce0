"""Pictures with true masks, as people have them, for the comparison.

Plain: a folder of pictures and one of masks of the same names. CelebAMask-HQ: as it is published,
with one binary PNG for every part of a face, painted in order; or as copies with one mask a picture.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from datasets.image_files import find_pictures, read_photograph, square, square_mask
from datasets.labels import LabelSet, Mask, read_mask


@dataclass(frozen=True)
class TestSet:
    """Where a test set lies.

    Args:
        images: a folder of pictures.
        masks: a folder of masks with their names; palette or grey PNG.
        labels: the label set of these masks; none for that of the run.
        merges: a label set with the run's classes whose merges say how those are read in them; none
            for the run's own.
        layout: `celebamask` where `masks` is CelebAMask-HQ's folder of parts, 0/00000_hair.png.
        first, last: numbers of the pictures to take, both included; the names are numbers then.
    """

    __test__ = False  # pytest: not a test

    images: Path
    masks: Path
    labels: Path | None = None
    merges: Path | None = None
    layout: Literal["plain", "celebamask"] = "plain"
    first: int | None = None
    last: int | None = None

    @property
    def paths(self) -> dict[str, Path]:
        """The paths that are given, by field."""
        every = {name: getattr(self, name) for name in ("pictures", "masks", "labels", "merges")}
        return {name: path for name, path in every.items() if path is not None}

    def without_paths(self) -> "TestSet":
        """What is left when data move: stages know their inputs by content."""
        return self.at(dict.fromkeys(self.paths, Path()))

    def at(self, paths: dict[str, Path]) -> "TestSet":
        """The same with other paths."""
        changed: dict[str, Any] = dict(paths)
        return replace(self, **changed)


@dataclass(frozen=True)
class Truth:
    """A test set read: uint8 [N, 3, R, R], class indices [N, R, R], and how they came about."""

    pictures: Tensor
    masks: Tensor
    about: dict[str, Any]


def read_test_set(name: str, spec: TestSet, labels: LabelSet, size: int) -> Truth:
    """Read a test set, its masks in the classes of `labels`, everything at R = `size`.

    Raises:
        UserError: a picture has no mask, a mask is wrong, or a class has no place in the label set.
    """
    theirs = LabelSet.load(spec.labels) if spec.labels else labels
    merged = LabelSet.load(spec.merges) if spec.merges else labels
    if merged.names != labels.names:
        raise UserError(f"{spec.merges} has other classes than the run; it may differ in merges.")
    table = merged.table(theirs.names) if spec.labels else np.arange(256, dtype=np.uint8)

    files = find_pictures(spec.images)
    if spec.first is not None or spec.last is not None:
        low, high = spec.first or 0, 10**9 if spec.last is None else spec.last
        files = {n: f for n, f in files.items() if n.isdecimal() and low <= int(n) <= high}
        if not files:
            raise UserError(f"{spec.images} has no pictures numbered {low} to {high}.")
    if spec.layout == "celebamask" and (named := [n for n in files if not n.isdecimal()]):
        raise UserError(
            f"{spec.images}: {named[0]} is no number, as names of CelebAMask-HQ's pictures are; take it "
            "away, or say layout: plain."
        )
    pictures, masks = [], []
    for stem, file in tqdm(sorted(files.items()), desc=name, unit="img", leave=False):
        photograph = read_photograph(file)
        if spec.layout == "celebamask":
            mask = _paint_parts(spec.masks, int(stem), theirs)
        else:
            mask = read_mask(_find_mask(spec.masks, stem), theirs, None)
        pictures.append(square(photograph, size))
        masks.append(torch.from_numpy(square_mask(table[mask], size)))
    about = {
        "images": len(pictures),
        "resolution": size,
        "labels": spec.labels.stem if spec.labels else "the run's",
        "map": describe_map(theirs, merged) if spec.labels else "none",
        "split": "all" if spec.first is None and spec.last is None else f"{spec.first}-{spec.last}",
    }
    return Truth(torch.stack(pictures), torch.stack(masks), about)


def describe_map(theirs: LabelSet, ours: LabelSet) -> str:
    """Which of their classes became which of ours, where the names differ."""
    table = ours.table(theirs.names)
    said = []
    for i, name in enumerate(ours.names):
        taken = [n for k, n in enumerate(theirs.names) if table[k] == i and n != name]
        if taken:
            said.append(f"{', '.join(taken)} as {name}")
    return "; ".join(said) or "equal names"


def _find_mask(folder: Path, stem: str) -> Path:
    """The mask of a picture: of the same name, or of the same number with zeros before it."""
    for name in (stem, stem.zfill(5), stem.lstrip("0") or "0"):
        if (path := folder / f"{name}.png").exists():
            return path
    raise UserError(f"{folder} has no mask {stem}.png; draw it, or take its picture away.")


def _paint_parts(folder: Path, number: int, labels: LabelSet) -> Mask:
    """Masks of single parts, later ones over earlier ones, in the order of the label set."""
    mask: Mask | None = None
    for index, part in enumerate(labels.names[1:], 1):
        path = folder / str(number // 2000) / f"{number:05d}_{part}.png"
        if not path.exists():
            continue
        shown = read_photograph(path).convert("L")
        if mask is None:
            mask = np.zeros(shown.size[::-1], np.uint8)
        mask[np.asarray(shown) > 127] = index
    if mask is None:
        raise UserError(
            f"{folder} has no part of picture {number} ({number // 2000}/{number:05d}_...)."
        )
    return mask
