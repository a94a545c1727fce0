"""LabelMe files as its versions and its relatives write them."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from datasets.labels import LabelSet, Mask
from datasets.masks import read_masks
from tests.datasets.masks.writers import (
    HAIR,
    LABELS,
    SIZES,
    SKIN,
    corners,
    labelme,
    make_truth,
    png,
    shape,
)  # fmt: skip

SMALL = base64.b64encode(png(np.ones((4, 4), np.uint8))).decode()
FACE = [shape("skin", corners(SKIN)), shape("hair", corners(HAIR))]


def read(folder: Path, shapes: list[dict[str, Any]], labels: LabelSet = LABELS) -> Mask:
    (folder / "0000.json").write_text(json.dumps(labelme(shapes)))
    return read_masks(folder, labels, SIZES)["0000"]


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_rectangles_of_four_points_are_polygons(tmp_path: Path, kind: str) -> None:
    diamond = [[10, 8], [15, 13], [10, 18], [5, 13]]
    expected = read(tmp_path, [*FACE, shape("skin", diamond)])
    assert np.array_equal(read(tmp_path, [*FACE, shape("skin", diamond, kind)]), expected)


@pytest.mark.parametrize(
    ("left", "top"),
    [
        (-3, 5),
        (5, -3),
        (-3, -4),
        (20, 5),
        (5, 16),
        (22, 18),
        (4, 4),
        (-20, 5),
        (5, -20),
        (30, 5),
        (5, 30),
    ],
)
def test_masks_over_a_border_are_cut_there(tmp_path: Path, left: int, top: int) -> None:
    part = np.arange(48).reshape(6, 8) % 3 > 0
    encoded = base64.b64encode(png(part.astype(np.uint8))).decode()
    box = [[left, top], [left + 7, top + 5]]
    found = read(tmp_path, [shape("hair", corners(HAIR)), shape("skin", box, "mask", mask=encoded)])
    expected = np.where(make_truth() == 2, 2, 0)
    for y, x in np.argwhere(part):
        if 0 <= top + y < 20 and 0 <= left + x < 24:
            expected[top + y, left + x] = 1
    if not (expected == 1).any():  # nothing of it is inside
        assert (found != 1).all()
    assert np.array_equal(found, expected)


def test_shapes_that_vanish_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(tmp_path, [shape("hair", corners((6, 3, 9, 5))), *FACE])
    said = capsys.readouterr().out
    assert said == "", "hair lies over hair: nothing is lost"
    read(tmp_path, [shape("hair", corners((6, 8, 9, 10))), FACE[0]])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: ") and "shape 1 (hair) of image 0000 is covered wholly" in line
    read(tmp_path, [*FACE, shape("hair", [[30, 30], [40, 30], [40, 40]])])
    assert "shape 3 (hair) of image 0000 covers no pixel" in capsys.readouterr().out


def test_labelmes_names_for_nothing_and_for_ignored_pixels(
    tmp_path: Path, labels: LabelSet
) -> None:
    box = corners((6, 8, 9, 10))
    assert (read(tmp_path, [*FACE, shape("__ignore__", box)])[8:11, 6:10] == 255).all()
    assert (read(tmp_path, [*FACE, shape("_background_", box)])[8:11, 6:10] == 0).all()
    own = LabelSet(LABELS.names, LABELS.colours, 250, {}, ("blurred", "__ignore__"))
    assert (read(tmp_path, [*FACE, shape("blurred", box)], own)[8:11, 6:10] == 250).all()
    assert (labels.index("__ignore__"), labels.index("_background_")) == (255, 0)
    none = LabelSet(LABELS.names, LABELS.colours, ignored=())
    with pytest.raises(UserError, match="the label __ignore__ is not in the label set"):
        read(tmp_path, [*FACE, shape("__ignore__", box)], none)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("skin", [[1, 1], [4, 1]]), "shape 3 (skin) of image 0000 is a polygon of 2 points"),
        (shape("skin", [[1, 1]], "point"), "is a point of 1 points"),
        (shape("skin", [[1, 1], [1e9, 1], [3, 3]]), "far beyond the image"),
        (shape("skin", [[0, 0], [3, 3]], "mask"), "a mask without its image"),
        (shape("skin", [[0, 0], [9, 9]], "mask", mask=SMALL), "a mask of 4x4 pixels in a box of 10x10"),
        (shape("skin", [[1, 2, 3]]), "damaged"), (shape("skin", 7), "damaged"),
        ({"label": "skin"}, "damaged"),
        (shape("skin", [[1, "x"]]), "damaged"), ("shape", "damaged"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, [*FACE, wrong])
    assert message in str(caught.value) and str(tmp_path / "0000.json") in str(caught.value)


def test_encodings(tmp_path: Path) -> None:
    labels = LabelSet(LABELS.names, LABELS.colours, 255, {"hair": ("头发",)})
    shapes = [FACE[0], shape("头发", corners(HAIR))]
    text = json.dumps(labelme(shapes), ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "0000.json").write_bytes(text.encode(encoding))
        assert np.array_equal(read_masks(tmp_path, labels, SIZES)["0000"], make_truth())
    (tmp_path / "0000.json").write_bytes(text.encode("gbk"))
    with pytest.raises(
        UserError, match=r"0000\.json is in another encoding than UTF-8 .*save it as UTF-8"
    ):
        read_masks(tmp_path, labels, SIZES)


def test_accents_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(labelme(FACE, "Ame\u0301lie.png")))
    assert set(read_masks(tmp_path, LABELS, {"Am\u00e9lie": (20, 24)})) == {"Am\u00e9lie"}
