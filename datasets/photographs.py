"""A user's unlabelled photographs: what a generator learns from."""

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


class Photographs(Dataset[Any]):
    """Images of a folder or zip file, cropped and resized once: item (epoch, i) is uint8 [3, R, R].

    Args:
        source: the folder or zip file.
        size: side R of the images.
        packed: file that keeps the cropped images; made where it is missing.

    Raises:
        UserError: fewer than two images can be read.
    """

    def __init__(self, source: Path, size: int, packed: Path) -> None:
        state = PartialState()
        if state.is_main_process and not packed.exists():
            _pack(source, size, packed)
        state.wait_for_everyone()
        self.images = np.memmap(packed, np.uint8, "r").reshape(-1, 3, size, size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Tensor:
        return torch.from_numpy(np.array(self.images[key[1]]))


def _pack(source: Path, size: int, packed: Path) -> None:
    files = list_images(source)
    passed_over: list[tuple[Traversable, str]] = [(file, "no image") for file in files.others]
    count, first_error = 0, ""
    # Written, not mapped: with a memory map, a full disk would kill the process without an error.
    with atomic_write(packed) as partial:
        with partial.open("wb") as handle:
            for file in tqdm(files.images, desc="photographs", unit="img"):
                try:
                    image = centre_square(open_image(file), size)
                except UserError as error:
                    passed_over.append((file, _reason(error, file)))
                    first_error = first_error or f"; {str(error).rstrip('.')}"
                    continue
                handle.write(image.numpy().tobytes())
                count += 1
        for line in left_out(passed_over):
            print(line)
        if count < 2:
            raise UserError(
                f"{source} has {count} readable images, and a generator needs many{first_error}."
            )
    print(printable(f"{count} photographs of {source} at {size} px, {len(passed_over)} left out"))


def _reason(error: UserError, file: Traversable) -> str:
    """Why a file cannot be read, without its name, so that equal reasons are one."""
    if isinstance(error.__cause__, UnreadableImage):
        return str(error.__cause__)
    return str(error).removeprefix(printable(file)).strip(" .")
