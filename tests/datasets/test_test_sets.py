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
OTHER = "celebamask19_brows_first"
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


def plain(folder: Path, mask: Image.Image, image: Image.Image, name: str = "1") -> TestSet:
    for place, what in (("images", image), ("masks", mask)):
        (folder / place).mkdir(exist_ok=True)
        what.save(folder / place / f"{name}.png", exif=what.getexif())
    return TestSet(folder / "images", folder / "masks")


def half(width: int, height: int) -> Image.Image:
    """Background above, skin below."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :] = 1
    return Image.fromarray(mask)


@pytest.mark.parametrize(
    ("image", "mask", "fits"),
    [
        ((40, 30), (40, 30), True), ((400, 300), (40, 30), True), ((40, 30), (400, 300), True),
        ((1000, 667), (100, 67), True), ((1000, 667), (100, 66), True), ((333, 1000), (33, 100), True),
        ((40, 30), (30, 40), False), ((40, 30), (32, 32), False), ((1024, 768), (512, 512), False),
        ((1024, 768), (512, 400), False), ((64, 64), (64, 66), False),
    ],
)  # fmt: skip
def test_a_mask_has_the_proportions_of_its_image(
    tmp_path: Path, labels: LabelSet, image: tuple[int, int], mask: tuple[int, int], fits: bool
) -> None:
    spec = plain(tmp_path, half(*mask), Image.new("RGB", image))
    if fits:
        assert read_test_set("t", spec, labels, 16).masks.shape == (1, 16, 16)
        return
    with pytest.raises(
        UserError, match=r"masks/1\.png is .* pixels but its image .*proportions differ"
    ):
        read_test_set("t", spec, labels, 16)


def test_an_image_that_is_turned_by_its_exif_data(tmp_path: Path, labels: LabelSet) -> None:
    image = Image.new("RGB", (40, 30))
    image.getexif()[0x0112] = 6
    with pytest.raises(
        UserError, match=r"1\.png is 40x30 pixels but its image .* is 30x40, upright"
    ):
        read_test_set("t", plain(tmp_path, half(40, 30), image), labels, 16)
    read_test_set("t", plain(tmp_path, half(30, 40), image), labels, 16)


def test_palettes_of_a_test_set(tmp_path: Path, labels: LabelSet) -> None:
    mask = half(8, 8)
    mask.putpalette([1, 1, 1, 90, 9, 9])
    spec = plain(tmp_path, mask, Image.new("RGB", (8, 8)))
    with pytest.raises(UserError, match="option palette: index or colour"):
        read_test_set("t", spec, labels, 8)
    assert (read_test_set("t", replace(spec, palette="index"), labels, 8).masks[0, 4:] == 1).all()
    mask.putpalette([*labels.colours[1], *labels.colours[0]])
    spec = plain(tmp_path, mask, Image.new("RGB", (8, 8)))
    assert (read_test_set("t", spec, labels, 8).masks[0, :4] == 1).all()


def test_images_of_each_class_are_told(
    tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "12":
        spec = plain(tmp_path, half(8, 8), Image.new("RGB", (8, 8)), name)
    (tmp_path / "images/notes.doc").write_text("text")
    read_test_set("mine", spec, labels, 8)
    said = capsys.readouterr().out
    assert "mine: 2 images; images that show each class: background 2, skin 2, hair 0" in said
    assert "warning: no image of mine shows hair" in said and "shows skin;" not in said
    assert "left out: 1 of .doc (no image)" in said


def test_part_files_are_counted(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, _ = celebamask
    stray = raw.masks / "14/29500_glasses.png"
    stray.write_bytes((raw.masks / "14/29500_skin.png").read_bytes())
    read_test_set("celeba", raw, labels, 64)
    said = capsys.readouterr().out
    assert "celeba: 10 part files of 2 images" in said
    assert "1 part files named glasses are left out" in said
    assert "2 of 2 images of celeba have no part file of mouth, u_lip, l_lip" in said
    assert "part file of hair" not in said and ", hat" not in said  # hats are background
    Image.new("L", (32, 32)).save(raw.masks / "14/29500_hair.png")
    with pytest.raises(
        UserError, match=r"29500_hair\.png is 32x32 pixels, another part of the image 64x64"
    ):
        read_test_set("celeba", raw, labels, 64)


@pytest.mark.parametrize("kind", ["0 and 1", "palette", "transparent", "bits"])
def test_part_files_of_other_kinds(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet, kind: str
) -> None:
    raw, _ = celebamask
    expected = read_test_set("t", raw, labels, 64).masks
    for path in raw.masks.rglob("*_skin.png"):
        with Image.open(path) as image:
            part = np.asarray(image.convert("L")) > 0
        new = Image.fromarray(part.astype(np.uint8))
        if kind == "palette":
            new.putpalette([0, 0, 0, 128, 0, 0])
        elif kind == "transparent":
            new = Image.fromarray(
                np.dstack([np.full((64, 64, 3), 255), part * 255]).astype(np.uint8)
            )
        elif kind == "bits":
            new = Image.fromarray(part)
        new.save(path)
    assert torch.equal(read_test_set("t", raw, labels, 64).masks, expected)


def test_the_other_order_of_nineteen_classes(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet
) -> None:
    """Grey copies in the order of face-parsing.PyTorch are read with its label set."""
    raw, palette = celebamask
    first, other = (LabelSet.load(path) for path in (NINETEEN, NINETEEN.with_stem(OTHER)))
    assert other.names[17] == "hair" and sorted(other.names) == sorted(first.names)
    assert dict(zip(other.names, other.colours, strict=True)) == dict(
        zip(first.names, first.colours, strict=True)
    )
    to_other = np.array([other.names.index(name) for name in first.names], np.uint8)
    for path in palette.masks.iterdir():
        with Image.open(path) as image:
            mask = np.asarray(image)
        Image.fromarray(to_other[mask]).save(path)
    spec = replace(palette, labels=NINETEEN.with_stem(OTHER))
    assert torch.equal(
        read_test_set("t", spec, labels, 64).masks, read_test_set("t", raw, labels, 64).masks
    )


def test_classes_that_are_ignored_are_told(
    celebamask: tuple[TestSet, TestSet], labels: LabelSet, tmp_path: Path
) -> None:
    text = (
        LABELS.read_text().replace("background: [eye_g, ", "background: [") + "ignored: [eye_g]\n"
    )
    (tmp_path / "merges.yaml").write_text(text)
    truth = read_test_set("t", replace(celebamask[0], merges=tmp_path / "merges.yaml"), labels, 64)
    assert truth.masks[0][28, 40] == 255 and "eye_g ignored" in truth.about["map"]
