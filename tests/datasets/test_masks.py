"""Masks as labelling tools write them; each file is built as the tool builds it."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from common.errors import UserError
from datasets.labels import LabelSet, write_mask
from datasets.masks import read_masks

LABELS = LabelSet(
    ("background", "skin", "hair"), ((0, 0, 0), (250, 200, 150), (90, 50, 20)), 255,
    {"hair": ("fringe", "beard")},
)  # fmt: skip
SIZES = {"0000": (20, 24), "0001": (20, 24)}
SKIN, HAIR = (4, 3, 15, 12), (2, 2, 18, 6)  # left, top, right, bottom of two rectangles, inclusive


@pytest.fixture
def truth():
    mask = np.zeros((20, 24), np.uint8)
    mask[3:13, 4:16] = 1
    mask[2:7, 2:19] = 2
    return mask


def corners(box):
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def labelme(shapes, name="0000.png", size=(20, 24)):
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
        "imageHeight": size[0], "imageWidth": size[1],
    }  # fmt: skip


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def png(array, mode=None):
    buffer = io.BytesIO()
    Image.fromarray(array, mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_palette_grey_and_colour_pictures(tmp_path, truth):
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


def test_white_is_ignored_where_no_class_is_white(tmp_path, truth):
    painted = LABELS.paint(truth)
    painted[0, 0] = 255
    Image.fromarray(painted).save(tmp_path / "0000.png")
    assert read_masks(tmp_path / "0000.png", LABELS, SIZES)["0000"][0, 0] == 255


def test_labelme_shapes(tmp_path, truth):
    shapes = [shape("skin", corners(SKIN)), shape("beard", [HAIR[:2], HAIR[2:]], "rectangle")]
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes, "..\\images\\0000.png")))
    (tmp_path / "0001.json").write_text(
        json.dumps(labelme([shape("skin", [[10, 10], [10, 13]], "circle")], "0001.png"))
    )
    masks = read_masks(tmp_path, LABELS, SIZES)
    assert np.array_equal(masks["0000"], truth)
    round_one = masks["0001"] == 1
    assert round_one[10, 7:14].all() and round_one[7:14, 10].all()
    assert not round_one[7, 7] and round_one.sum() == pytest.approx(9 * np.pi, rel=0.35)


def test_labelme_embedded_masks(tmp_path, truth):
    hair = np.ones((5, 17), np.uint8) * 255
    part = base64.b64encode(png(hair)).decode()
    shapes = [
        shape("skin", corners(SKIN)), shape("hair", [[2, 2], [18, 6]], "mask", mask=part),
    ]  # fmt: skip
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    assert np.array_equal(read_masks(tmp_path, LABELS, SIZES)["0000"], truth)


def test_labelme_mask_over_the_border_is_cut(tmp_path):
    part = base64.b64encode(png(np.ones((10, 10), np.uint8))).decode()
    shapes = [shape("skin", [[20, 15], [29, 24]], "mask", mask=part)]
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    mask = read_masks(tmp_path, LABELS, SIZES)["0000"]
    assert mask[15:, 20:].all() and mask.sum() == 5 * 4


@pytest.mark.parametrize("zipped", [False, True])
def test_cvat_segmentation_mask(tmp_path, truth, zipped):
    """Colours of CVAT's own choice, another order, a label that nothing shows."""
    theirs = {0: (0, 0, 0), 1: (250, 50, 83), 2: (51, 221, 255)}
    painted = np.zeros((20, 24, 3), np.uint8)
    for index, colour in theirs.items():
        painted[truth == index] = colour
    table = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nglasses:1,2,3::\n"
        "fringe:51,221,255::\nskin:250,50,83::\n"
    )
    files = {
        "labelmap.txt": table.encode(), "SegmentationClass/0000.png": png(painted),
        "SegmentationObject/0000.png": png(painted), "ImageSets/Segmentation/default.txt": b"0000\n",
    }  # fmt: skip
    root = tmp_path / "task"
    if zipped:
        root = tmp_path / "task.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    assert np.array_equal(read_masks(root, LABELS, SIZES)["0000"], truth)


def test_coco_polygons_and_run_lengths(tmp_path, truth):
    hair = np.asfortranarray((truth == 2).astype(np.uint8))
    compressed = coco.encode(hair)
    runs = np.concatenate([[0], hair.flatten("F"), [1 - hair.flatten("F")[-1]]])
    edges = np.flatnonzero(np.diff(runs)) if runs[1] else np.flatnonzero(np.diff(runs[1:])) + 1
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    x0, y0, x1, y1 = SKIN
    polygon = [x0, y0, x1 + 1, y0, x1 + 1, y1 + 1, x0, y1 + 1]
    segmentations = {
        "0000.png": {"size": compressed["size"], "counts": compressed["counts"].decode()},
        "0001.png": {"size": [20, 24], "counts": counts},
    }
    content = {
        "categories": [
            {"id": 7, "name": "hair"},
            {"id": 3, "name": "skin"},
            {"id": 9, "name": "x"},
        ],
        "images": [
            {"id": i, "file_name": f"images/{name}", "width": 24, "height": 20}
            for i, name in enumerate([*segmentations, "0007.png"])
        ],
        "annotations": [],
    }
    for i, runs_of_hair in enumerate(segmentations.values()):
        content["annotations"] += [
            {"image_id": i, "category_id": 3, "segmentation": [polygon], "iscrowd": 0},
            {"image_id": i, "category_id": 7, "segmentation": runs_of_hair, "iscrowd": 1},
        ]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    masks = read_masks(tmp_path / "instances.json", LABELS, SIZES)
    assert set(masks) == {"0000", "0001"}
    for mask in masks.values():
        assert np.array_equal(mask, truth)


def broken(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme([shape("moustache", corners(SKIN))]), "label moustache is not in the label set"),
        (labelme([shape("skin", [[1, 1], [4, 4]], "line")]), "line of 2 points"),
        (labelme([shape("skin", corners(SKIN))], "other.png"), "no picture other"),
        (labelme([shape("skin", corners(SKIN))], size=(24, 20)), "20x24 pixels but its picture"),
        (labelme([]), "all background"),
        (labelme([shape("skin", [[0, 0], [3, 3]], "mask", mask="no!")]), "damaged"),
        ({"shapes": [{"label": "skin"}], "imageHeight": 20, "imageWidth": 24}, "damaged"),
        ({"something": 1}, "neither LabelMe's"),
        ("{", "damaged"),
    ],
)
def test_broken_json_is_named(tmp_path, content, message):
    path = broken(tmp_path, "0000.json", content)
    with pytest.raises(UserError, match=message) as caught:
        read_masks(tmp_path, LABELS, SIZES)
    assert str(path) in str(caught.value)


def test_other_mistakes(tmp_path, truth):
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


def test_pictures_beside_json_files_are_no_masks(tmp_path, truth):
    """LabelMe saves next to the picture."""
    Image.new("RGB", (24, 20), "green").save(tmp_path / "0000.png")
    shapes = [shape("skin", corners(SKIN)), shape("hair", [HAIR[:2], HAIR[2:]], "rectangle")]
    (tmp_path / "0000.json").write_text(json.dumps(labelme(shapes)))
    assert np.array_equal(read_masks(tmp_path, LABELS, SIZES)["0000"], truth)
