"""Pictures as people have them: a folder or a zip file of photographs of any size and format."""

import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from datasets import Dataset
from datasets.artifacts import UserError, atomic_write
from datasets.batches import Key
from datasets.labels import Mask

# What Pillow and zipfile raise for files that are damaged, no pictures, or too large.
_UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError,
    zipfile.BadZipFile, zlib.error, EOFError,
)  # fmt: skip
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def open_root(path: Path) -> Traversable:
    """A folder, or the inside of a zip file.

    Raises:
        UserError: neither of them is there.
    """
    if path.is_dir():
        return path
    if path.is_file() and zipfile.is_zipfile(path):
        return zipfile.Path(path)
    raise UserError(f"{path} is neither a folder nor a zip file.")


def walk(folder: Traversable) -> Iterator[Traversable]:
    """All files below, without hidden ones."""
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            yield from walk(entry)
        else:
            yield entry


def find_pictures(path: Path) -> dict[str, Traversable]:
    """Picture files of a folder or zip file by their names without ending, sorted.

    Raises:
        UserError: there is none, or two differ by folder or ending alone.
    """
    pictures: dict[str, Traversable] = {}
    for file in sorted(walk(open_root(path)), key=str):
        name = PurePosixPath(file.name)
        if name.suffix.lower() not in ENDINGS:
            continue
        if name.stem in pictures:
            raise UserError(f"{path} has two pictures named {name.stem}; rename one of them.")
        pictures[name.stem] = file
    if not pictures:
        raise UserError(f"{path} holds no pictures ({', '.join(sorted(ENDINGS))}).")
    return pictures


def read_photograph(file: Traversable) -> Image.Image:
    """A picture in RGB, upright.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open("rb") as handle, Image.open(handle) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would cut all shades off at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except _UNREADABLE as error:
        raise UserError(f"{file} is not a readable picture ({error}).") from error


def square(picture: Image.Image, size: int) -> Tensor:
    """The middle square of a picture at the given side, uint8 [3, size, size]."""
    cropped = picture.crop(_middle(picture.size))
    small = cropped.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def square_mask(mask: Mask, size: int) -> npt.NDArray[np.uint8]:
    """The middle square of a mask [H, W] at the given side, each pixel the nearest one."""
    image = Image.fromarray(mask)
    small = image.crop(_middle(image.size)).resize((size, size), Image.Resampling.NEAREST)
    return np.array(small)


def _middle(size: tuple[int, int]) -> tuple[int, int, int, int]:
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


class Photographs(Dataset[Any]):
    """Pictures of a folder or zip file, cropped and resized once: item i is uint8 [3, R, R].

    Args:
        source: the folder or zip file.
        size: R.
        packed: a file of all their bytes, that keeps them; made where it is missing.

    Raises:
        UserError: fewer than two pictures can be read.
    """

    def __init__(self, source: Path, size: int, packed: Path) -> None:
        state = PartialState()
        if state.is_main_process and not packed.exists():
            _pack(source, size, packed)
        state.wait_for_everyone()
        self.pictures = np.memmap(packed, np.uint8, "r").reshape(-1, 3, size, size)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> Tensor:
        return torch.from_numpy(np.array(self.pictures[key[1]]))


def _pack(source: Path, size: int, packed: Path) -> None:
    files = list(find_pictures(source).values())
    unreadable, count = [], 0
    # Written, not mapped: through a map, a full disk would end the process without a word.
    with atomic_write(packed) as partial:
        with partial.open("wb") as handle:
            for file in tqdm(files, desc="photographs", unit="img"):
                try:
                    picture = square(read_photograph(file), size)
                except UserError as error:
                    unreadable.append(str(error))
                    continue
                handle.write(picture.numpy().tobytes())
                count += 1
        for line in unreadable:
            print(f"left out: {line}")
        if count < 2:
            raise UserError(f"{source} has {count} readable pictures; a generator needs many.")
    print(f"{count} photographs of {source} at {size} px, {len(unreadable)} left out")
