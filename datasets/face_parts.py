"""Masks of CelebAMask-HQ as it is published: a binary PNG for each part, as in 0/00000_hair.png."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.archives import read_file
from common.errors import UserError, printable
from datasets.labels import LabelSet, Mask
from datasets.mask_images import find_opaque, open_mask

_MANY = 0.5  # a class whose files are missing for more of the images is told
_NAME = re.compile(r"(\d{5})_(\w+)\.png", re.ASCII)


class FaceParts:
    """The part files of a folder.

    Args:
        folder: the folder of parts, CelebAMask-HQ-mask-anno.
        labels: label set whose classes, but for the first, are the parts.

    Raises:
        UserError: the folder is none.
    """

    def __init__(self, folder: Path, labels: LabelSet) -> None:
        self.folder, self.labels = folder, labels
        self._files: dict[int, dict[str, Path]] = defaultdict(dict)
        self._painted: list[int] = []
        if not folder.is_dir():
            raise UserError(
                f"{folder} is no folder of CelebAMask-HQ's parts; check the option masks."
            )
        for file in folder.glob("*/*.png"):
            found = _NAME.fullmatch(file.name)
            if found and file.parent.name == str(int(found[1]) // 2000):
                self._files[int(found[1])][found[2]] = file

    def paint(self, number: int) -> Mask:
        """The parts of an image as one mask [H, W], in the order of the label set: later over earlier ones.

        Raises:
            UserError: there are none, or they are of several sizes.
        """
        files = self._files.get(number, {})
        mask: Mask | None = None
        for index, part in enumerate(self.labels.names[1:], 1):
            if part not in files:
                continue
            pixels = _read_part(files[part])
            if mask is None:
                mask = np.zeros(pixels.shape, np.uint8)
            if pixels.shape != mask.shape:
                raise UserError(
                    f"{files[part]} is {pixels.shape[1]}x{pixels.shape[0]} pixels, another part of the "
                    f"image {mask.shape[1]}x{mask.shape[0]}; copy the parts again."
                )
            mask[pixels] = index
        if mask is None:
            raise UserError(
                f"{self.folder} has no part of image {number} ({number // 2000}/{number:05d}_...)."
            )
        self._painted.append(number)
        return mask

    def tell(self, name: str, table: npt.NDArray[np.uint8]) -> None:
        """Print how many part files the images of a test set have, and what is missing or left out.

        Args:
            name: the test set.
            table: class of the run by index of the part's class.
        """
        total, parts = len(self._painted), self.labels.names
        found: Counter[str] = Counter()
        by_class: dict[int, set[int]] = defaultdict(set)
        for number in self._painted:
            found.update(self._files[number].keys())
            for part in self._files[number].keys() & {*parts[1:]}:
                by_class[int(table[parts.index(part)])].add(number)
        lines = [f"{name}: {sum(found[p] for p in parts[1:])} part files of {total} images"]
        lines += [
            f"warning: {count} part files named {part} are left out; the label set has no such class"
            for part, count in sorted(found.items())
            if part not in parts[1:]
        ]
        for index in sorted({*table[1 : len(parts)].tolist()} - {0, self.labels.ignore_index}):
            if (missing := total - len(by_class[index])) > _MANY * total:
                those = ", ".join(p for i, p in enumerate(parts) if i and table[i] == index)
                lines.append(
                    f"warning: {missing} of {total} images of {name} have no part file of {those}"
                )
        for line in lines:
            print(printable(line))


def _read_part(file: Path) -> npt.NDArray[np.bool_]:
    """The pixels of a part, [H, W]: the brighter ones of two shades, or those above the middle of many.

    Raises:
        UserError: it cannot be read, or is half transparent.
    """
    image = open_mask(read_file(file), file)
    opaque = find_opaque(image, file)
    rgb = image.convert("RGBA" if opaque is not None else "RGB").convert("L")
    grey = np.asarray(rgb) if opaque is None else np.where(opaque, np.asarray(rgb), 0)
    return grey > (0 if len({*np.unique(grey).tolist()} - {0}) == 1 else 127)
