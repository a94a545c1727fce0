"""The pseudo-label store: zip shards of PNG files, readable by any tool.

For sample i a shard holds `images/i.png`, `masks/i.png` (palette) and `confidence/i.png` (grey, 255 =
certain), not compressed again. With soft labels there is also `runners_up/i.png` (grey: the second most
probable class of every pixel, below it its probability, and so on). `scores.json` holds the uncertainty of
each image as a whole; `agreement.json`, where teacher and student labelled together, the share of its
pixels on which they agreed. Shards are written whole or not at all; equal contents give equal bytes.
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

from common.errors import UserError, brief
from common.files import atomic_write, read_fields
from datasets import Dataset
from datasets.labels import LabelSet

INDEX = "pseudo_labels.json"
SCORES, AGREEMENT = "scores.json", "agreement.json"
_OPEN = 512  # files that a reader keeps open; systems often allow a process a thousand
_MOST = 10_000_000  # samples that an index may claim
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal contents give equal bytes


class Labelled(NamedTuple):
    """An image and the classes of its pixels.

    Attributes:
        image: uint8 [3, H, W].
        mask: the most probable class, uint8 [H, W].
        confidence: the probability of that class, uint8 [H, W], 255 = certain.
        runners_up: soft labels: the second class, its probability, the third class, and so on, uint8
            [2 (k - 1), H, W] for the k most probable classes.
    """

    image: Tensor
    mask: Tensor
    confidence: Tensor
    runners_up: Tensor


def soft_labels(
    mask: Tensor, confidence: Tensor, runners_up: Tensor, classes: int, temperature: float = 1.0
) -> Tensor:
    """Probabilities [B, C, H, W] that sum to one, from a batch of `Labelled` fields.

    Args:
        mask: integers [B, H, W]; pixels with an index beyond the classes get zeros.
        confidence: [B, H, W], 1 = certain.
        runners_up: uint8 [B, 2 (k - 1), H, W].
        classes: C.
        temperature: above 1, probabilities become more equal.
    """
    known = (mask < classes).unsqueeze(1)
    ranked = torch.cat([mask.unsqueeze(1).long(), runners_up[:, 0::2].long()], 1)
    shares = torch.cat([confidence.unsqueeze(1).float(), runners_up[:, 1::2].float() / 255], 1)
    dense = shares.new_zeros(len(mask), classes, *mask.shape[1:])
    dense.scatter_add_(1, ranked.clamp_max(classes - 1), shares * known)
    dense = dense ** (1 / temperature)
    return dense / dense.sum(1, keepdim=True).clamp_min(1e-6)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.zip"


class Encoded(NamedTuple):
    """A sample as a shard holds it: contents of its files by name, its uncertainty and agreement."""

    files: dict[str, bytes]
    score: float
    agreement: float | None = None


def encode(
    number: int,
    sample: Labelled,
    score: float,
    labels: LabelSet,
    agreement: float | None = None,
) -> Encoded:
    """Encode a sample as PNG files.

    Args:
        number: its number, which names the files.
        score: its uncertainty.
        labels: label set, for the palette of the mask.
        agreement: share of its pixels on which teacher and student agree; none without a student.
    """
    images = {
        "images": Image.fromarray(sample.image.permute(1, 2, 0).numpy()),
        "masks": labels.as_png(sample.mask.numpy()),
        "confidence": Image.fromarray(sample.confidence.numpy()),
    }
    if len(sample.runners_up):
        images["runners_up"] = Image.fromarray(sample.runners_up.flatten(0, 1).numpy())
    files = {}
    for kind, image in images.items():
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        files[f"{kind}/{number:07d}.png"] = buffer.getvalue()
    return Encoded(files, score, agreement)


def write_shard(path: Path, samples: Sequence[Encoded]) -> None:
    """Write samples as one shard."""
    of_all = {SCORES: _numbers([sample.score for sample in samples])}
    agreement = [sample.agreement for sample in samples if sample.agreement is not None]
    if agreement:
        of_all[AGREEMENT] = _numbers(agreement)
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as shard:
        for sample in [*samples, Encoded(of_all, 0.0)]:
            for name, content in sample.files.items():
                shard.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), content)


def _numbers(values: Sequence[float]) -> bytes:
    return json.dumps([round(value, 6) for value in values]).encode()


def read_scores(folder: Path, shards: int, file: str = SCORES) -> list[float]:
    """The uncertainty of every sample of the first `shards` shards, or what another such file says."""
    scores = []
    for number in range(shards):
        with zipfile.ZipFile(folder / shard_name(number)) as shard:
            scores += json.loads(shard.read(file))
    return scores


def most_uncertain(scores: Sequence[float], share: float) -> list[int]:
    """Numbers of the most uncertain `share` of all samples, in order; of equal ones the later go first."""
    ranked = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    return sorted(ranked[len(scores) - int(share * len(scores)) :])


def _read_index(path: Path) -> dict[str, Any]:
    """What a finished store holds.

    Raises:
        UserError: it is missing or damaged.
    """
    remedy = "run the stage `label` again"
    kinds = {"count": int, "per_shard": int, "top_k": int, "dropped": list}
    index = read_fields(path, kinds, remedy)
    counts, dropped = [index[name] for name in ("count", "per_shard", "top_k")], index["dropped"]
    if min(counts) < 1 or max(counts) > _MOST or not all(type(n) is int for n in dropped):
        raise UserError(f"{path} holds numbers that are no counts; {remedy}.")
    return index


class PseudoLabels(Dataset[Any]):
    """The samples of a finished store as a data set of `Labelled` items, without the dropped ones.

    Args:
        folder: the folder of the stage `label`.

    Attributes:
        top_k: classes of each pixel whose probability is stored.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        index = _read_index(folder / INDEX)
        self.folder, self.count, self.per_shard = folder, index["count"], index["per_shard"]
        self.top_k, dropped = index["top_k"], {*index["dropped"]}
        self.kept = [number for number in range(self.count) if number not in dropped]
        self._kinds = ["images", "masks", "confidence", *(["runners_up"] if self.top_k > 1 else [])]
        # By process: a file opened before a worker forked would share its position with it.
        self._open: dict[tuple[int, int], zipfile.ZipFile] = {}
        for number in range(-(-self.count // self.per_shard)):
            self._check(folder / shard_name(number), number)

    def _check(self, path: Path, number: int) -> None:
        expected = min(self.per_shard, self.count - number * self.per_shard)
        try:
            with zipfile.ZipFile(path) as shard:
                names = shard.namelist()
                found = len(names) - (AGREEMENT in names)
        except Exception as error:  # zipfile raises anything on damaged files
            raise UserError(
                f"{path} is damaged or missing ({brief(error)}): delete it and the folder's manifest.json, "
                "then run the stage `label` again; only this shard is made again."
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
        """A sample by its number, dropped or not."""
        parts = []
        shard = self._shard(number // self.per_shard)
        for kind in self._kinds:
            name = f"{kind}/{number:07d}.png"
            try:
                content = shard.read(name)  # whole, so that its checksum is compared
                with Image.open(io.BytesIO(content)) as image:
                    parts.append(torch.from_numpy(np.array(image)))
            except Exception as error:  # zipfile and Pillow raise anything on damaged files
                raise UserError(
                    f"{shard.filename}: {name} is damaged ({brief(error)}): delete the shard and the "
                    "folder's manifest.json, then run the stage `label` again."
                ) from error
        pixels, mask, confidence, *others = parts
        runners_up = torch.cat([mask.new_empty(0, mask.shape[1]), *others])
        if len(runners_up) != 2 * (self.top_k - 1) * len(mask):
            raise UserError(
                f"{self.folder / INDEX} and {shard.filename} do not agree; run the stage `label` again."
            )
        planes = runners_up.view(2 * (self.top_k - 1), *mask.shape)
        return Labelled(pixels.permute(2, 0, 1), mask, confidence, planes)

    def _shard(self, number: int) -> zipfile.ZipFile:
        key = (os.getpid(), number)
        shard = self._open.get(key)
        if shard is None:
            if len(self._open) >= _OPEN:
                self._open = {}  # a file closes when its last reader is done
            shard = self._open[key] = zipfile.ZipFile(self.folder / shard_name(number))
        return shard

    def __getstate__(self) -> dict[str, object]:
        """Open files are not passed to other processes."""
        return self.__dict__ | {"_open": {}}
