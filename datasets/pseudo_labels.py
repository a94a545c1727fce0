"""The pseudo-label store: zip shards of PNG files, readable by any tool.

A shard holds, for sample i, `images/i.png`, `masks/i.png` (palette) and `confidence/i.png` (grey,
255 = certain), stored without a second compression; where soft labels are kept, `runners_up/i.png` (grey:
the second most probable class of every pixel, below it its probability, and so on); and `scores.json`, how
uncertain each image is as a whole. Shards are written whole or not at all, and their bytes depend on their
contents only.
"""

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.files import atomic_write, read_json
from datasets import Dataset
from datasets.labels import LabelSet

INDEX = "pseudo_labels.json"
_SCORES = "scores.json"
_OPEN = 512  # files that a reader keeps open; systems often allow a process a thousand
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal contents give equal bytes


class Labelled(NamedTuple):
    """A picture and what is known of its pixels.

    Attributes:
        image: uint8 [3, H, W].
        mask: the most probable class, uint8 [H, W].
        confidence: its probability, uint8 [H, W], 255 = one.
        runners_up: for soft labels, the next class and its probability, and so on, uint8 [2 (k - 1), H, W].
    """

    image: Tensor
    mask: Tensor
    confidence: Tensor
    runners_up: Tensor


def soft_labels(
    mask: Tensor, confidence: Tensor, runners_up: Tensor, classes: int, temperature: float = 1.0
) -> Tensor:
    """Probabilities [B, C, H, W] that add up to one, from a batch of what `Labelled` holds.

    Args:
        mask: integers [B, H, W]; indices beyond the classes have no probabilities.
        confidence: [B, H, W], 1 = certain.
        runners_up: uint8 [B, 2 (k - 1), H, W].
        temperature: above 1, probabilities come nearer to each other.
    """
    known = (mask < classes).unsqueeze(1)
    ranked = torch.cat([mask.unsqueeze(1).long(), runners_up[:, 0::2].long()], 1)
    shares = torch.cat([confidence.unsqueeze(1).float(), runners_up[:, 1::2].float() / 255], 1)
    dense = shares.new_zeros(len(mask), classes, *mask.shape[1:])
    dense.scatter_add_(1, ranked.clamp_max(classes - 1), shares * known)
    dense = dense ** (1 / temperature)
    return dense / dense.sum(1, keepdim=True).clamp_min(1e-6)


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.zip"


class Encoded(NamedTuple):
    """A sample as it lies in a shard: the contents of its files by name, and its uncertainty."""

    files: dict[str, bytes]
    score: float


def encode(number: int, sample: Labelled, score: float, labels: LabelSet) -> Encoded:
    """Sample number `number` as PNG files."""
    pictures = {
        "images": Image.fromarray(sample.image.permute(1, 2, 0).numpy()),
        "masks": labels.as_png(sample.mask.numpy()),
        "confidence": Image.fromarray(sample.confidence.numpy()),
    }
    if len(sample.runners_up):
        pictures["runners_up"] = Image.fromarray(sample.runners_up.flatten(0, 1).numpy())
    files = {}
    for kind, picture in pictures.items():
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        files[f"{kind}/{number:07d}.png"] = buffer.getvalue()
    return Encoded(files, score)


def write_shard(path: Path, samples: Sequence[Encoded]) -> None:
    """Write samples as one shard."""
    scores = json.dumps([round(sample.score, 6) for sample in samples]).encode()
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as shard:
        for sample in [*samples, Encoded({_SCORES: scores}, 0.0)]:
            for name, content in sample.files.items():
                shard.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), content)


def read_scores(folder: Path, shards: int) -> list[float]:
    """The uncertainty of every sample of the first `shards` shards."""
    scores = []
    for number in range(shards):
        with zipfile.ZipFile(folder / shard_name(number)) as shard:
            scores += json.loads(shard.read(_SCORES))
    return scores


def most_uncertain(scores: Sequence[float], share: float) -> list[int]:
    """Numbers of the worst `share` of all samples, in order; of two alike, the later one goes first."""
    ranked = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    return sorted(ranked[len(scores) - int(share * len(scores)) :])


class PseudoLabels(Dataset[Any]):
    """Random access to the samples that a finished store keeps; needs no generator.

    Items are `Labelled`.

    Attributes:
        top_k: classes whose probability is known for every pixel.
    """

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / INDEX)
        self.folder, self.count, self.per_shard = folder, index["count"], index["per_shard"]
        self.top_k, dropped = index["top_k"], {*index["dropped"]}
        self.kept = [number for number in range(self.count) if number not in dropped]
        self._kinds = ["images", "masks", "confidence", *(["runners_up"] if self.top_k > 1 else [])]
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
        if found != (files := len(self._kinds) * expected + 1):
            raise UserError(
                f"{path} holds {found} files, not {files}; delete it and rerun `label`."
            )

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Labelled:
        return self.sample(self.kept[index])

    def sample(self, number: int) -> Labelled:
        """Sample number `number`, kept or not."""
        parts = []
        shard = self._shard(number // self.per_shard)
        for kind in self._kinds:
            name = f"{kind}/{number:07d}.png"
            try:
                with shard.open(name) as handle, Image.open(handle) as picture:
                    parts.append(torch.from_numpy(np.array(picture)))
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{shard.filename}: {name} is damaged ({error}).") from error
        image, mask, confidence, *others = parts
        runners_up = torch.cat([mask.new_empty(0, mask.shape[1]), *others])
        planes = runners_up.view(2 * (self.top_k - 1), *mask.shape)
        return Labelled(image.permute(2, 0, 1), mask, confidence, planes)

    def _shard(self, number: int) -> zipfile.ZipFile:
        key = (os.getpid(), number)
        shard = self._open.get(key)
        if shard is None:
            if len(self._open) >= _OPEN:
                self._open = {}  # each is closed once nobody reads from it any more
            shard = self._open[key] = zipfile.ZipFile(self.folder / shard_name(number))
        return shard

    def __getstate__(self) -> dict[str, object]:
        """Open files stay with their process."""
        return self.__dict__ | {"_open": {}}
