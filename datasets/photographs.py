"""A user's unlabelled photographs: what a generator learns from, and some that nothing learns from."""

import hashlib
import zipfile
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError, printable
from common.files import atomic_write
from common.images import UnreadableImage
from datasets import Dataset
from datasets.batches import Key
from datasets.image_files import centre_square, left_out, list_images, open_image
from datasets.photograph_overview import Overview


class Photographs(Dataset[Any]):
    """Images of a folder or zip file, cropped and resized once: item (epoch, i) is uint8 [3, R, R].

    Args:
        source: the folder or zip file.
        size: side R of the images.
        packed: file that keeps the cropped images; made where it is missing.
        kept_back: number of photographs that are passed over; `read_kept_back` reads them.
        look: is shown the photographs when they have been read, once, by the main process.

    Raises:
        UserError: fewer than two images can be read.
    """

    def __init__(
        self,
        source: Path,
        size: int,
        packed: Path,
        kept_back: int = 0,
        look: Callable[[Overview], None] | None = None,
    ) -> None:
        state = PartialState()
        if state.is_main_process and not packed.exists():
            _pack(source, size, packed, kept_back, look)
        state.wait_for_everyone()
        self.images = np.memmap(packed, np.uint8, "r").reshape(-1, 3, size, size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Tensor:
        return torch.from_numpy(np.array(self.images[key[1]]))


def read_kept_back(source: Path, size: int, count: int) -> Tensor:
    """The photographs that `Photographs` passes over, uint8 [N, 3, size, size], without unreadable ones.

    Raises:
        UserError: none of them can be read, or there are fewer photographs.
    """
    squares, error = [], None
    for file in _kept_back(source, list_images(source).images, count):
        try:
            squares.append(centre_square(open_image(file), size))
        except UserError as unreadable:
            error = unreadable
    if not squares and error:
        raise error
    return torch.stack(squares)


def _kept_back(source: Path, images: list[Traversable], count: int) -> list[Traversable]:
    """Some of the images, which stay the same when others are added: those of lowest hash of the name.

    Raises:
        UserError: nothing would be left to learn from.
    """
    if count and len(images) < count + 2:
        raise UserError(
            f"{source} has {len(images)} photographs, and {count} of them are to be kept back; lower "
            "sources.kept_back, or bring more."
        )

    def number(file: Traversable) -> str:
        inside = (
            file.at
            if isinstance(file, zipfile.Path)
            else Path(str(file)).relative_to(source).as_posix()
        )
        return hashlib.sha256(inside.encode(errors="surrogateescape")).hexdigest()

    return sorted(images, key=number)[:count]


def _pack(
    source: Path,
    size: int,
    packed: Path,
    kept_back: int,
    look: Callable[[Overview], None] | None,
) -> None:
    files = list_images(source)
    passed = set(map(str, _kept_back(source, files.images, kept_back)))
    learned = [file for file in files.images if str(file) not in passed]
    passed_over: list[tuple[Traversable, str]] = [(file, "no image") for file in files.others]
    overview, first_error = Overview(), ""
    # Written, not mapped: with a memory map, a full disk would kill the process without an error.
    with atomic_write(packed) as partial:
        with partial.open("wb") as handle:
            for file in tqdm(learned, desc="photographs", unit="img"):
                try:
                    image = open_image(file)
                except UserError as error:
                    passed_over.append((file, _reason(error, file)))
                    first_error = first_error or f"; {str(error).rstrip('.')}"
                    continue
                square = centre_square(image, size)
                handle.write(square.numpy().tobytes())
                overview.add(printable(file.name), image.size, square)
        for line in left_out(passed_over):
            print(line)
        count = len(overview.names)
        if count < 2:
            raise UserError(
                f"{source} has {count} readable images, and a generator needs many{first_error}."
            )
        if look:
            look(overview)
    kept = f", {kept_back} kept back" if kept_back else ""
    print(
        printable(
            f"{count} photographs of {source} at {size} px, {len(passed_over)} left out{kept}"
        )
    )


def _reason(error: UserError, file: Traversable) -> str:
    """Why a file cannot be read, without its name, so that equal reasons are one."""
    if isinstance(error.__cause__, UnreadableImage):
        return str(error.__cause__)
    return str(error).removeprefix(printable(file)).strip(" .")
