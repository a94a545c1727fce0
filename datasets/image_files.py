"""Image files of any size and format, in a folder or a zip file."""

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from common.archives import read_file
from common.errors import UserError, brief, printable
from common.images import SUFFIXES, UnreadableImage, read_rgb
from datasets.labels import Mask

_NAMED = 20  # files of a kind that are named when they are left out; the others are counted


class ImageFiles(NamedTuple):
    """What lies in a folder or zip file.

    Attributes:
        images: files whose ending is that of an image, sorted.
        others: all other files, but hidden ones.
    """

    images: list[Traversable]
    others: list[Traversable]


def open_root(path: Path) -> Traversable:
    """A folder, or the inside of a zip file.

    Raises:
        UserError: the path is neither.
    """
    if path.is_dir():
        return path
    if path.is_file() and zipfile.is_zipfile(path):
        try:
            return zipfile.Path(path)
        except Exception as error:  # zipfile raises anything on a damaged directory
            raise UserError(
                f"{path} is a damaged zip file ({brief(error)}); copy it again."
            ) from error
    if looks_zipped(path):
        raise UserError(f"{path} is a damaged zip file (its directory is missing); copy it again.")
    raise UserError(f"{path} is neither a folder nor a zip file.")


def looks_zipped(path: Path) -> bool:
    """Whether a file is a zip file, or what is left of one."""
    try:
        with path.open("rb") as handle:
            return path.suffix.lower() == ".zip" or handle.read(4) == b"PK\3\4"
    except OSError:
        return False


def walk(folder: Traversable) -> Iterator[Traversable]:
    """All files below a folder, without hidden ones.

    Raises:
        UserError: a folder cannot be read.
    """
    if isinstance(folder, zipfile.Path):
        # Its own way through folders has no end where names are damaged.
        for name in dict.fromkeys(folder.root.namelist()):
            parts = [part for part in PurePosixPath(name).parts if part not in (".", "..")]
            if not name.endswith("/") and not any(map(_is_hidden, parts)):
                yield zipfile.Path(folder.root, name)
    elif isinstance(folder, Path):
        yield from _walk(folder, set())


def _walk(folder: Path, above: set[str]) -> Iterator[Path]:
    """`above`: the true paths of the folders that it lies in, to which a link may lead back."""
    above = above | {os.path.realpath(folder)}
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if not entry.is_dir():
            yield entry
        elif os.path.realpath(entry) not in above:
            yield from _walk(entry, above)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def list_images(path: Path) -> ImageFiles:
    """The files of a folder or zip file, whatever their names.

    Raises:
        UserError: there are no images.
    """
    found = ImageFiles([], [])
    for file in sorted(walk(open_root(path)), key=str):
        is_image = PurePosixPath(file.name).suffix.lower() in SUFFIXES
        (found.images if is_image else found.others).append(file)
    if not found.images:
        raise UserError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))}).")
    return found


def find_images(path: Path) -> dict[str, Traversable]:
    """Image files of a folder or zip file by their names without ending, sorted; prints what is no image.

    Raises:
        UserError: there are none, or two differ only by folder or ending.
    """
    found = list_images(path)
    # Annotations may lie beside their images.
    others = [file for file in found.others if not file.name.lower().endswith((".json", ".txt"))]
    for line in left_out((file, "no image") for file in others):
        print(line)
    images: dict[str, Traversable] = {}
    for file in found.images:
        stem = PurePosixPath(file.name.replace("\\", "/")).stem  # a zip file of Windows
        if stem in images:
            raise UserError(
                f"{path} has two images named {stem} ({images[stem]} and {file}); rename one of them."
            )
        images[stem] = file
    return images


def left_out(files: Iterable[tuple[Traversable, str]]) -> list[str]:
    """Lines that count and name files by their ending and the reason why they are left out."""
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file, why in files:
        kinds[PurePosixPath(file.name).suffix.lower() or "no ending", why].append(str(file))
    lines = []
    for (ending, why), names in kinds.items():
        some = ", ".join(names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(printable(f"left out: {len(names)} of {ending} ({why}): {some}{more}"))
    return lines


def open_image(file: Traversable) -> Image.Image:
    """An image in RGB as `common.images` reads it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Image.fromarray(read_rgb(read_file(file)))
    except UnreadableImage as error:
        raise UserError(f"{file} is not a readable image ({error}).") from error


def centre_square(image: Image.Image, size: int) -> Tensor:
    """The middle square of an image, resized, uint8 [3, size, size]."""
    cropped = image.crop(_middle(image.size))
    small = cropped.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def centre_square_mask(mask: Mask, size: int) -> npt.NDArray[np.uint8]:
    """The middle square of a mask [H, W], resized to the nearest pixels, uint8 [size, size]."""
    image = Image.fromarray(mask)
    small = image.crop(_middle(image.size)).resize((size, size), Image.Resampling.NEAREST)
    return np.array(small)


def _middle(size: tuple[int, int]) -> tuple[int, int, int, int]:
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side
