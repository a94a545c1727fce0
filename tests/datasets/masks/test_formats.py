"""What every mask format passes; and a new format, added by a file and a line."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import read_json
from datasets.annotations import read_annotated
from datasets.labels import LabelSet, Mask, read_mask, write_mask
from datasets.masks import MASK_FORMATS, read_masks
from datasets.masks.base import FoundMask, MaskFile, Target
from teacher.annotate import AnnotateOptions, annotate
from tests.conftest import LABELS as FACE8
from tests.conftest import ROOT
from tests.datasets.masks.writers import (
    LABELS,
    SIZES,
    coco,
    cvat_files,
    make_truth,
    write_files,
    write_labelme,
)


class FormatContract(ABC):
    """What every format passes; a subclass for each says how its files are written.

    Attributes:
        name: its name in MASK_FORMATS.
    """

    name: str

    @abstractmethod
    def write(self, folder: Path) -> Path:
        """Write a mask of the image 0000 into an empty folder; returns a file that can be damaged."""

    def test_the_mask_comes_back(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        masks = read_masks(tmp_path, LABELS, SIZES)
        assert {*masks} <= {*SIZES} and np.array_equal(masks["0000"], make_truth())

    def test_only_this_format_claims_it(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        beside = [p for p in tmp_path.rglob("*") if p.is_file()]
        claims = [n for n, kind in MASK_FORMATS.items() if kind.claims(MaskFile(path, beside))]
        assert claims[0] == self.name

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError) as refused:
            read_masks(tmp_path, LABELS, SIZES)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)

    def test_an_image_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        with pytest.raises(UserError, match="there is no image 0000"):
            read_masks(tmp_path, LABELS, {"0005": (20, 24)})


class TestPng(FormatContract):
    name = "PNG"

    def write(self, folder: Path) -> Path:
        write_mask(folder / "0000.png", make_truth(), LABELS)
        return folder / "0000.png"


class TestLabelMe(FormatContract):
    name = "LabelMe JSON"

    def write(self, folder: Path) -> Path:
        return write_labelme(folder)


class TestCoco(FormatContract):
    name = "COCO JSON"

    def write(self, folder: Path) -> Path:
        (folder / "instances.json").write_text(json.dumps(coco(make_truth())))
        return folder / "instances.json"


class TestCvat(FormatContract):
    name = "CVAT's Segmentation mask 1.1"

    def write(self, folder: Path) -> Path:
        write_files(folder, cvat_files(make_truth()))
        return folder / "SegmentationClass/0000.png"


def test_every_format_has_a_contract() -> None:
    assert {c.name for c in (TestPng, TestLabelMe, TestCoco, TestCvat)} == {*MASK_FORMATS}


def claims_text(file: MaskFile) -> bool:
    """A toy format: a line of text for each image, its name and then every index."""
    return file.ending == ".masks"


def read_text(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    for line in file.content.decode().splitlines():
        name, *indices = line.split()
        size = target.sizes[target.image_of(name, file)]
        yield FoundMask(name, str(file), np.array(indices, np.uint8).reshape(size))


def write_text(path: Path, masks: dict[str, Mask]) -> None:
    lines = [" ".join([name, *map(str, mask.flatten())]) for name, mask in masks.items()]
    path.write_text("\n".join(lines))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        MASK_FORMATS, "toy text", SimpleNamespace(claims=claims_text, read=read_text)
    )


@pytest.mark.usefixtures("toy")
def test_a_new_format_is_two_functions_and_a_line(tmp_path: Path) -> None:
    truth = make_truth()
    write_text(tmp_path / "all.masks", {"0001": truth})
    write_mask(tmp_path / "0000.png", truth, LABELS)  # an image beside it is not a mask
    masks = read_masks(tmp_path, LABELS, SIZES)
    assert list(masks) == ["0001"] and np.array_equal(masks["0001"], truth)
    (tmp_path / "all.masks").write_text("0001 1 2")
    with pytest.raises(UserError, match=r"all\.masks is damaged or not valid toy text"):
        read_masks(tmp_path, LABELS, SIZES)


@pytest.mark.usefixtures("toy")
def test_annotate_reads_a_new_format(tmp_path: Path, labels: LabelSet) -> None:
    drawn = ROOT / "assets/faces64/annotated_train"
    mask = read_mask(drawn / "masks/0001.png", labels, (64, 64))
    write_text(tmp_path / "mine.masks", {"0001": mask})
    options = AnnotateOptions(drawn, tmp_path / "mine.masks", tmp_path / "out")
    annotate(ROOT / "assets/faces64/generator", FACE8, options, lambda name, device: no_maps)
    generator = read_json(drawn / "samples.json")["generator"]
    samples, masks = read_annotated(tmp_path / "out", labels, generator)
    assert len(samples) == 1 and torch.equal(masks[0], torch.from_numpy(mask))


def no_maps(images: torch.Tensor) -> list[torch.Tensor]:
    raise AssertionError("drawn samples need no inversion")
