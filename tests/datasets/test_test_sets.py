"""CelebAMask-HQ as it is published, and as copies have it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datasets.labels import LabelSet, write_mask
from datasets.test_sets import TestSet, read_test_set
from tests.conftest import LABELS, ROOT

NINETEEN = ROOT / "configs/labels/celebamask19.yaml"
BOXES = {  # later ones lie over earlier ones
    "skin": (10, 10, 50, 50), "eye_g": (14, 20, 46, 30), "l_eye": (16, 22, 22, 26),
    "hair": (8, 4, 52, 14), "hat": (8, 2, 52, 6),
}  # fmt: skip


@pytest.fixture
def celebamask(tmp_path: Path) -> tuple[TestSet, TestSet]:
    """Images of 128 px, masks of 64 px: in the original the sizes differ as well."""
    theirs = LabelSet.load(NINETEEN)
    for number in (29499, 29500, 29999):
        image = np.full((128, 128, 3), number % 251, np.uint8)
        (tmp_path / "CelebA-HQ-img").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"CelebA-HQ-img/{number}.jpg")
        whole = np.zeros((64, 64), np.uint8)
        for part, (left, top, right, bottom) in BOXES.items():
            alone = np.zeros((64, 64), np.uint8)
            alone[top:bottom, left:right] = 255
            folder = tmp_path / f"anno/{number // 2000}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.dstack([alone] * 3)).save(folder / f"{number:05d}_{part}.png")
        for part in theirs.names:  # in the order of the classes, whatever that of the boxes
            if part in BOXES:
                left, top, right, bottom = BOXES[part]
                whole[top:bottom, left:right] = theirs.names.index(part)
        write_mask(tmp_path / f"palette/{number}.png", whole, theirs)
    raw = TestSet(
        tmp_path / "CelebA-HQ-img", tmp_path / "anno", NINETEEN, None, "celebamask", 29500, 29999
    )
    return raw, replace(raw, masks=tmp_path / "palette", layout="plain")


def test_raw_layout_and_palette_copies_agree(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet
) -> None:
    raw, palette = (read_test_set("t", spec, labels, 64) for spec in celebamask)
    assert raw.about["images"] == 2 and raw.about["split"] == "29500-29999"
    assert torch.equal(raw.masks, palette.masks) and torch.equal(raw.images, palette.images)
    mask = raw.masks[0]
    at = {name: labels.names[mask[y, x]] for name, (y, x) in {
        "skin": (40, 40), "glasses": (28, 40), "hair": (8, 20), "hat": (3, 20), "eye": (23, 17),
    }.items()}  # fmt: skip
    assert at == {
        "skin": "skin",
        "glasses": "background",
        "hair": "hair",
        "hat": "background",
        "eye": "eye",
    }
    assert "eye_g, hat, ear_r, neck_l, neck, cloth as background" in raw.about["map"]


@pytest.mark.parametrize("glasses", ["eye", "skin"])
def test_the_published_maps_differ_in_glasses(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet, glasses: str
) -> None:
    merges = ROOT / f"configs/labels/face8_glasses_{glasses}.yaml"
    truth = read_test_set("t", replace(celebamask[0], merges=merges), labels, 64)
    assert labels.names[truth.masks[0][28, 40]] == glasses
    assert "eye_g" in truth.about["map"].split(f" as {glasses}")[0]


def test_mistakes_are_named(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet, tmp_path: Path
) -> None:
    raw, palette = celebamask
    (stray := raw.images / "cover.png").write_bytes(next(raw.images.iterdir()).read_bytes())
    with pytest.raises(UserError, match="cover is no number, as names of CelebAMask-HQ's"):
        read_test_set("t", replace(raw, first=None, last=None), labels, 64)
    stray.unlink()
    with pytest.raises(UserError, match="no images numbered 5 to 9"):
        read_test_set("t", replace(raw, first=5, last=9), labels, 64)
    (tmp_path / "palette/29500.png").unlink()
    with pytest.raises(UserError, match=r"no mask 29500\.png"):
        read_test_set("t", palette, labels, 64)
    with pytest.raises(UserError, match="no part of image 29500"):
        read_test_set("t", replace(raw, masks=tmp_path), labels, 64)
    with pytest.raises(UserError, match="other classes than the run"):
        read_test_set("t", replace(raw, merges=NINETEEN), labels, 64)
    other = LabelSet(("background", "skin"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UserError, match="the class nose has no place"):
        read_test_set("t", raw, other, 64)
    assert LABELS.exists()
