"""Image files of any size and format, in a folder or a zip file."""

import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from common.errors import UserError
from datasets.labels import Mask

# What Pillow and zipfile raise for files that are damaged, not images, or too large.
UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError,
    zipfile.BadZipFile, zlib.error, EOFError,
)  # fmt: skip
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def open_root(path: Path) -> Traversable:
    """A folder, or the inside of a zip file.

    Raises:
        UserError: the path is neither.
    """
    if path.is_dir():
        return path
    if path.is_file() and zipfile.is_zipfile(path):
        return zipfile.Path(path)
    raise UserError(f"{path} is neither a folder nor a zip file.")


def walk(folder: Traversable) -> Iterator[Traversable]:
    """All files below a folder, without hidden ones."""
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            yield from walk(entry)
        else:
            yield entry


def find_images(path: Path) -> dict[str, Traversable]:
    """Image files of a folder or zip file by their names without ending, sorted.

    Raises:
        UserError: there are none, or two differ only by folder or ending.
    """
    images: dict[str, Traversable] = {}
    for file in sorted(walk(open_root(path)), key=str):
        name = PurePosixPath(file.name)
        if name.suffix.lower() not in ENDINGS:
            continue
        if name.stem in images:
            raise UserError(f"{path} has two images named {name.stem}; rename one of them.")
        images[name.stem] = file
    if not images:
        raise UserError(f"{path} holds no images ({', '.join(sorted(ENDINGS))}).")
    return images


def open_image(file: Traversable) -> Image.Image:
    """An image in RGB, turned upright by its EXIF data.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open("rb") as handle, Image.open(handle) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would clip all shades at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except UNREADABLE as error:
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
