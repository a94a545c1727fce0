"""A user's unlabelled photographs: what a generator learns from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_write
from datasets import Dataset
from datasets.batches import Key
from datasets.image_files import find_pictures, read_photograph, square


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
