from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from datasets.labels import LabelSet, Mask, read_image, read_mask, write_mask
from tests.conftest import ROOT

MASK = np.array([[0, 1], [7, 255]], np.uint8)


def test_masks_come_back(tmp_path: Path, labels: LabelSet) -> None:
    write_mask(tmp_path / "m.png", MASK, labels)
    assert np.array_equal(read_mask(tmp_path / "m.png", labels, (2, 2)), MASK)
    with Image.open(tmp_path / "m.png") as image:  # any viewer sees the classes' colours
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((1, 0)) == labels.colours[1]


def test_paint_shows_ignored_pixels_white(labels: LabelSet) -> None:
    painted = labels.paint(MASK)
    assert painted[1, 1].tolist() == [255, 255, 255]
    assert painted[1, 0].tolist() == list(labels.colours[7])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 2), np.uint8), "2x3 pixels but its image is 2x2"),
        (np.array([[0, 8], [0, 0]], np.uint8), "index 8"),
        (np.zeros((2, 2), np.uint8), "all background"),
    ],
)
def test_wrong_masks_are_named(tmp_path: Path, labels: LabelSet, mask: Mask, message: str) -> None:
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=message) as caught:
        read_mask(tmp_path / "m.png", labels, (2, 2))
    assert str(tmp_path / "m.png") in str(caught.value)


def test_missing_broken_and_colour_masks(tmp_path: Path, labels: LabelSet) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_mask(tmp_path / "none.png", labels, (2, 2))
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match="not a readable image"):
        read_mask(tmp_path / "text.png", labels, (2, 2))
    with pytest.raises(UserError, match="not a readable image"):
        read_image(tmp_path / "text.png")
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "rgb.png")
    with pytest.raises(UserError, match=r"colour \(9, 8, 7\) at column 0, row 0"):
        read_mask(tmp_path / "rgb.png", labels, (2, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b]\ncolours: [[0, 0, 0]]", "2 names but 1 colours"),
        ("names: [a, b]", "colours"),
        ("names: [a]\ncolours: [[0, 0]]", "r, g, b"),
        ("names: [a, b]\ncolours: [[0, 0, 0], [1, 1, 1]]\nignore_index: 1", "also the index"),
        ("names: [", "no valid YAML .line 1, column 9"),
    ],
)
def test_wrong_label_sets_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        LabelSet.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", [
    "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ncolours: []", "&a [*a]", "names: &a {<<: *a}",
    "names: [a, no]\ncolours: [[0, 0, 0], [1, 1, 1]]", "names: ab\ncolours: [[0, 0, 0], [1, 1, 1]]",
    "names: [a, b]\nnames: [c, d]\ncolours: [[0, 0, 0], [1, 1, 1]]", "[" * 2000,
    "names: [a, b]\ncolours: [[.inf, 0, 0]]",
    "names: [a, b]\ncolours: [[0, 0, 0], [1, 1, 1]]\nmerges: {a: xyz}",
    "names: [a, b]\ncolours: [[0, 0, 0], [1, 1, 1]]\n1: x\nz: y",
])  # fmt: skip
def test_label_sets_that_yaml_takes_for_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        LabelSet.load(tmp_path / "labels.yaml")
    assert (
        str(refused.value).startswith(f"label set {tmp_path}") and str(refused.value).isprintable()
    )


def test_the_encoding_of_a_label_set(tmp_path: Path) -> None:
    text = "names: [фон, лицо]\ncolours: [[0, 0, 0], [1, 1, 1]]\nignored: [шум]\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "set.yaml").write_bytes(text.encode(encoding))
        labels = LabelSet.load(tmp_path / "set.yaml")
        assert labels.names == ("фон", "лицо") and labels.index("шум") == 255
    (tmp_path / "set.yaml").write_bytes(text.encode("cp1251"))
    with pytest.raises(UserError, match=r"set\.yaml is in another encoding than UTF-8"):
        LabelSet.load(tmp_path / "set.yaml")
    (tmp_path / "set.yaml").write_text(text.replace("шум", "лицо"))
    with pytest.raises(UserError, match="names лицо twice"):
        LabelSet.load(tmp_path / "set.yaml")


def test_masks_of_another_label_set_are_read_by_name() -> None:
    nineteen = LabelSet.load(ROOT / "configs/labels/celebamask19.yaml")
    assert len(nineteen) == 19
    places = {}
    for kind in ("face8", "face8_glasses_eye", "face8_glasses_skin"):
        eight = LabelSet.load(ROOT / f"configs/labels/{kind}.yaml")
        assert eight.names == LabelSet.load(ROOT / "configs/labels/face8.yaml").names
        table = eight.table(nineteen.names)
        told = {name: eight.names[table[i]] for i, name in enumerate(nineteen.names)}
        assert told["u_lip"] == told["l_lip"] == "mouth" and told["neck"] == "background"
        assert told["hair"] == "hair" and told["l_brow"] == "eyebrow" and table[255] == 255
        places[kind] = told["eye_g"]
    assert list(places.values()) == ["background", "eye", "skin"]


def test_a_class_without_a_place_is_named(labels: LabelSet) -> None:
    with pytest.raises(UserError, match="class hat2 has no place"):
        labels.table(("skin", "hat2"))
