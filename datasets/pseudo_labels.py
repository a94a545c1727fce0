"""The pseudo-label store: zip shards of PNG files, readable by any tool.

A shard holds, for sample i, `images/i.png`, `masks/i.png` (palette) and `confidence/i.png` (grey,
255 = certain), stored without a second compression. Shards are written whole or not at all, and their
bytes depend on their contents only.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets import Dataset
from datasets.artifacts import UserError, atomic_write, read_json
from datasets.labels import LabelSet

INDEX = "pseudo_labels.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal contents give equal bytes


class Labelled(NamedTuple):
    """A picture uint8 [3, H, W], its mask uint8 [H, W] and confidence uint8 [H, W]."""

    image: Tensor
    mask: Tensor
    confidence: Tensor


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.zip"


def write_shard(path: Path, first: int, samples: list[Labelled], labels: LabelSet) -> None:
    """Write samples number `first`, `first + 1`, ... as one shard."""
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as shard:
        for number, sample in enumerate(samples, first):
            pictures = {
                "images": Image.fromarray(sample.image.permute(1, 2, 0).numpy()),
                "masks": labels.as_png(sample.mask.numpy()),
                "confidence": Image.fromarray(sample.confidence.numpy()),
            }
            for kind, picture in pictures.items():
                buffer = io.BytesIO()
                picture.save(buffer, format="PNG", compress_level=1)
                entry = zipfile.ZipInfo(f"{kind}/{number:07d}.png", date_time=_EPOCH)
                shard.writestr(entry, buffer.getvalue())


class PseudoLabels(Dataset[Any]):
    """Random access to a finished store; needs no generator. Items are `Labelled`."""

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / INDEX)
        self.folder, self.count, self.per_shard = folder, index["count"], index["per_shard"]
        # By process: a file that was open when a worker forked would share its position.
        self._open: dict[tuple[int, int], zipfile.ZipFile] = {}
        for number in range(-(-self.count // self.per_shard)):
            self._check(folder / shard_name(number), number)

    def _check(self, path: Path, number: int) -> None:
        expected = min(self.per_shard, self.count - number * self.per_shard)
        try:
            with zipfile.ZipFile(path) as shard:
                found = len(shard.namelist())
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is damaged or missing ({error}): delete it and the folder's manifest.json, "
                "then run the stage `label` again; only this shard is made anew."
            ) from error
        if found != 3 * expected:
            raise UserError(
                f"{path} holds {found} files, not {3 * expected}; delete it and rerun `label`."
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Labelled:
        shard = self._shard(index // self.per_shard)
        parts = []
        for kind in ("images", "masks", "confidence"):
            name = f"{kind}/{index:07d}.png"
            try:
                with shard.open(name) as handle, Image.open(handle) as picture:
                    parts.append(torch.from_numpy(np.array(picture)))
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{shard.filename}: {name} is damaged ({error}).") from error
        image, mask, confidence = parts
        return Labelled(image.permute(2, 0, 1), mask, confidence)

    def _shard(self, number: int) -> zipfile.ZipFile:
        key = (os.getpid(), number)
        if key not in self._open:
            self._open[key] = zipfile.ZipFile(self.folder / shard_name(number))
        return self._open[key]

    def __getstate__(self) -> dict[str, object]:
        """Open files stay with their process."""
        return self.__dict__ | {"_open": {}}
