"""Files that were cut, flipped, emptied or swapped: a right result or one sentence, whatever the format.

Some hundreds of mutations of every kind of file are thrown at its reader.
"""

import contextlib
import io
import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from safetensors.torch import save

from common.images import UnreadableImage
from datasets.annotations import read_annotated
from datasets.image_files import open_image
from datasets.labels import LabelSet, read_mask
from datasets.masks import read_masks
from datasets.photographs import Photographs
from datasets.pseudo_labels import PseudoLabels, shard_name
from datasets.test_sets import TestSet, read_test_set
from student.predict.sources import _archive as archive_of
from student.predict.sources import find_sources
from tests.conftest import LABELS as FACE8
from tests.datasets.masks.writers import (
    HAIR,
    LABELS,
    SIZES,
    SKIN,
    coco,
    corners,
    cvat_files,
    labelme,
    make_truth,
    png,
    shape,
    write_files,
)  # fmt: skip
from tests.datasets.test_pseudo_labels import make_store
from tests.mutations import TIMES, check


def are_masks(found: Any) -> bool:
    """Masks of the two images, in the label set."""
    values = {0, 1, 2, 255}
    return bool(found) and all(
        mask.shape == SIZES[name] and {*np.unique(mask).tolist()} <= values
        for name, mask in found.items()
    )


def is_truth(found: Any) -> bool:
    return bool(np.array_equal(found["0000"], make_truth()))


def masks_of(folder: Path, _: Path) -> Any:
    return read_masks(folder, LABELS, SIZES)


@pytest.mark.parametrize(
    "kind", ["png", "jpg", "gif", "tif", "bmp", "webp", "jp2", "avif", "ppm", "tga"]
)
def test_images(tmp_path: Path, kind: str) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    array = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / f"a.{kind}")

    def is_right(image: Image.Image) -> bool:
        if kind == "png":  # whose checksums tell
            return bool(np.array_equal(np.asarray(image), array)) or image.size == (24, 20)
        return image.mode == "RGB" and min(image.size) > 0

    assert check(tmp_path / f"a.{kind}", open_image, is_right) > 20


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA"])
def test_masks_as_png(tmp_path: Path, mode: str) -> None:
    image = LABELS.as_png(make_truth())
    image = Image.fromarray(make_truth()) if mode == "L" else image.convert(mode)
    image.save(tmp_path / "0000.png")
    assert check(tmp_path / "0000.png", partial(masks_of, tmp_path), is_truth) > TIMES / 2
    check(
        tmp_path / "0000.png", lambda path: {"0000": read_mask(path, LABELS, (20, 24))}, is_truth, 1
    )


def test_labelme(tmp_path: Path) -> None:
    import base64

    part = base64.b64encode(png(np.ones((4, 6), np.uint8))).decode()
    shapes = [
        shape("skin", corners(SKIN)), shape("hair", corners(HAIR)),
        shape("hair", [[9, 9], [4, 3]], "circle"),
        shape("skin", [[3, 4], [8, 7]], "mask", mask=part),
    ]  # fmt: skip
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    assert check(tmp_path / "0000.json", partial(masks_of, tmp_path), are_masks) > TIMES / 2


def test_coco(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps(coco(make_truth())))
    assert check(tmp_path / "all.json", partial(masks_of, tmp_path), are_masks) > TIMES / 2


@pytest.mark.parametrize("file", ["labelmap.txt", "SegmentationClass/0000.png"])
def test_cvat(tmp_path: Path, file: str) -> None:
    write_files(tmp_path, cvat_files(make_truth()))
    assert check(tmp_path / file, partial(masks_of, tmp_path), are_masks) > 50


def test_zip_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("0000", "0001"):
            archive.writestr(f"in/{name}.png", png(make_truth()))

    def masks(path: Path) -> Any:
        return read_masks(path, LABELS, SIZES)

    def are_right(found: Any) -> bool:
        return all(np.array_equal(mask, make_truth()) for mask in found.values())

    assert check(tmp_path / "a.zip", masks, are_right) > TIMES / 2


def test_photographs_in_zip_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for shade in range(3):
            stored = io.BytesIO()
            Image.new("RGB", (8, 8), (shade,) * 3).save(stored, "BMP")
            archive.writestr(f"{shade}.bmp", stored.getvalue())

    def photographs(path: Path) -> list[int]:
        (tmp_path / "packed").unlink(missing_ok=True)
        found = Photographs(path, 8, tmp_path / "packed")
        return [int(found[0, i].max()) for i in range(len(found))]

    def are_right(found: list[int]) -> bool:
        return 2 <= len(found) <= 3 and {*found} <= {0, 1, 2}

    check(tmp_path / "a.zip", photographs, are_right)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_predict_reads_zip_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", png(make_truth()))

    def predict(path: Path) -> Any:
        images = []
        for source in find_sources([str(path)], tmp_path / "out"):
            with contextlib.suppress(UnreadableImage):  # which it names, and goes on
                images.append(source.read(1))
        archive_of.cache_clear()
        return images

    check(tmp_path / "a.zip", predict, lambda found: all(i.shape == (20, 24, 3) for i in found))


def test_label_sets(tmp_path: Path) -> None:
    (tmp_path / "labels.yaml").write_bytes(FACE8.read_bytes())
    check(tmp_path / "labels.yaml", LabelSet.load, lambda labels: len(labels) > 1)


@pytest.mark.parametrize(
    "name", ["samples.json", "latents.safetensors", "images/0001.png", "masks/0001.png"]
)
def test_annotated_folders(tmp_path: Path, name: str) -> None:
    image = png(np.dstack([make_truth()] * 3))
    stored = io.BytesIO()
    LABELS.as_png(make_truth()).save(stored, "PNG")
    files = {"latents.safetensors": save({"w": torch.ones(2, 3)})}
    files["samples.json"] = json.dumps({"generator": "abc", "count": 2, "origin": {}}).encode()
    for i in range(2):
        files |= {f"images/000{i}.png": image, f"masks/000{i}.png": stored.getvalue()}
    write_files(tmp_path, files)

    def annotated(_: Path) -> Any:
        return read_annotated(tmp_path, LABELS, "abc")

    def is_right(found: Any) -> bool:
        samples, masks = found
        return len(samples) == len(masks) >= 1 and all(
            len(t) == len(masks) for t in samples.latents.values()
        )

    check(tmp_path / name, annotated, is_right)


def test_shards(tmp_path: Path, labels: LabelSet) -> None:
    samples = make_store(tmp_path, labels, count=4, per_shard=4)

    def shard(_: Path) -> Any:
        store = PseudoLabels(tmp_path)
        return [store[i] for i in range(len(store))]

    def are_right(found: Any) -> bool:
        return all(torch.equal(a.image, b.image) for a, b in zip(found, samples, strict=True))

    check(tmp_path / shard_name(0), shard, are_right)


@pytest.mark.parametrize("name", ["images/a.png", "masks/a.png"])
def test_test_sets(tmp_path: Path, name: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(LABELS.paint(make_truth())).save(tmp_path / "images/a.png")
    LABELS.as_png(make_truth()).save(tmp_path / "masks/a.png")
    spec = TestSet(tmp_path / "images", tmp_path / "masks")
    check(
        tmp_path / name,
        lambda _: read_test_set("t", spec, LABELS, 8),
        lambda t: t.images.shape == (1, 3, 8, 8),
    )
