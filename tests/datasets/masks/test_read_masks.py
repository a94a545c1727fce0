"""Details of the mask formats, and mistakes in them."""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from common.errors import UserError
from datasets.labels import Mask, write_mask
from datasets.masks import read_masks
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
    write_labelme,
)


@pytest.fixture
def truth() -> Mask:
    return make_truth()


def test_palette_grey_and_colour_images(tmp_path: Path, truth: Mask) -> None:
    write_mask(tmp_path / "palette/0000.png", truth, LABELS)
    for kind, array in (("grey", truth), ("colour", LABELS.paint(truth))):
        (tmp_path / kind).mkdir()
        Image.fromarray(array).save(tmp_path / kind / "0000.png")
    with_alpha = np.dstack([LABELS.paint(truth), np.full(truth.shape, 255, np.uint8)])
    (tmp_path / "alpha").mkdir()
    Image.fromarray(with_alpha).save(tmp_path / "alpha/0000.png")
    for kind in ("palette", "grey", "colour", "alpha"):
        masks = read_masks(tmp_path / kind, LABELS, SIZES)
        assert list(masks) == ["0000"]
        assert np.array_equal(masks["0000"], truth), kind


def test_white_is_ignored_where_no_class_is_white(tmp_path: Path, truth: Mask) -> None:
    painted = LABELS.paint(truth)
    painted[0, 0] = 255
    Image.fromarray(painted).save(tmp_path / "0000.png")
    assert read_masks(tmp_path / "0000.png", LABELS, SIZES)["0000"][0, 0] == 255


def test_labelme_shapes(tmp_path: Path, truth: Mask) -> None:
    write_labelme(tmp_path)
    (tmp_path / "0001.json").write_text(
        json.dumps(labelme([shape("skin", [[10, 10], [10, 13]], "circle")], "0001.png"))
    )
    masks = read_masks(tmp_path, LABELS, SIZES)
    assert np.array_equal(masks["0000"], truth)
    round_one = masks["0001"] == 1
    assert round_one[10, 7:14].all() and round_one[7:14, 10].all()
    assert not round_one[7, 7] and round_one.sum() == pytest.approx(9 * np.pi, rel=0.35)


def test_labelme_embedded_masks(tmp_path: Path, truth: Mask) -> None:
    hair = np.ones((5, 17), np.uint8) * 255
    part = base64.b64encode(png(hair)).decode()
    shapes = [
        shape("skin", corners(SKIN)), shape("hair", [[2, 2], [18, 6]], "mask", mask=part),
    ]  # fmt: skip
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    assert np.array_equal(read_masks(tmp_path, LABELS, SIZES)["0000"], truth)


def test_labelme_mask_over_the_border_is_cut(tmp_path: Path) -> None:
    part = base64.b64encode(png(np.ones((10, 10), np.uint8))).decode()
    shapes = [shape("skin", [[20, 15], [29, 24]], "mask", mask=part)]
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    mask = read_masks(tmp_path, LABELS, SIZES)["0000"]
    assert mask[15:, 20:].all() and mask.sum() == 5 * 4


@pytest.mark.parametrize("zipped", [False, True])
def test_cvat_segmentation_mask(tmp_path: Path, truth: Mask, zipped: bool) -> None:
    files = cvat_files(truth)
    root = tmp_path / "task"
    if zipped:
        root = tmp_path / "task.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        write_files(root, files)
    assert np.array_equal(read_masks(root, LABELS, SIZES)["0000"], truth)


def test_coco_polygons_and_run_lengths(tmp_path: Path, truth: Mask) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(coco(truth)))
    masks = read_masks(tmp_path / "instances.json", LABELS, SIZES)
    assert set(masks) == {"0000", "0001"}
    for mask in masks.values():
        assert np.array_equal(mask, truth)


def broken(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme([shape("moustache", corners(SKIN))]), "label moustache is not in the label set"),
        (labelme([shape("skin", [[1, 1], [4, 4]], "line")]), "line of 2 points"),
        (labelme([shape("skin", corners(SKIN))], "other.png"), "no image other"),
        (labelme([shape("skin", corners(SKIN))], size=(24, 20)), "20x24 pixels but its image"),
        (labelme([]), "all background"),
        (labelme([shape("skin", [[0, 0], [3, 3]], "mask", mask="no!")]), "damaged"),
        ({"shapes": [{"label": "skin"}], "imageHeight": 20, "imageWidth": 24}, "damaged"),
        ({"something": 1}, "neither LabelMe's"),
        ("{", "damaged"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = broken(tmp_path, "0000.json", content)
    with pytest.raises(UserError, match=message) as caught:
        read_masks(tmp_path, LABELS, SIZES)
    assert str(path) in str(caught.value)


def test_other_mistakes(tmp_path: Path, truth: Mask) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_masks(tmp_path / "none", LABELS, SIZES)
    with pytest.raises(UserError, match="holds no masks"):
        read_masks(tmp_path, LABELS, SIZES)
    smooth = Image.fromarray(LABELS.paint(truth))
    ImageDraw.Draw(smooth).point((5, 1), (10, 20, 30))
    smooth.save(tmp_path / "0000.png")
    with pytest.raises(UserError, match=r"colour \(10, 20, 30\) at column 5, row 1"):
        read_masks(tmp_path, LABELS, SIZES)
    (tmp_path / "0000.png").unlink()
    for folder in ("a", "b"):
        write_mask(tmp_path / folder / "0000.png", truth, LABELS)
    with pytest.raises(UserError, match="two masks"):
        read_masks(tmp_path, LABELS, SIZES)


def test_images_beside_json_files_are_no_masks(tmp_path: Path, truth: Mask) -> None:
    """LabelMe saves next to the image."""
    Image.new("RGB", (24, 20), "green").save(tmp_path / "0000.png")
    shapes = [shape("skin", corners(SKIN)), shape("hair", [HAIR[:2], HAIR[2:]], "rectangle")]
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    assert np.array_equal(read_masks(tmp_path, LABELS, SIZES)["0000"], truth)
