"""COCO files as tools really write them: ids, outlines and run lengths of all kinds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from datasets.labels import Mask
from datasets.masks import read_masks
from tests.datasets.masks.writers import LABELS, SIZES, coco, make_truth

RING = [2, 2, 12, 2, 12, 12, 2, 12]


def content(segmentation: Any = None, **more: Any) -> dict[str, Any]:
    """The truth, and over it in the image 0000 skin with an outline of one's own."""
    made = coco(make_truth())
    skin = {"id": 77, "image_id": 0, "category_id": 3}
    made["annotations"].append({**skin, "segmentation": segmentation, **more})
    return made


def read(folder: Path, written: dict[str, Any]) -> dict[str, Mask]:
    (folder / "all.json").write_text(json.dumps(written))
    return read_masks(folder / "all.json", LABELS, SIZES)


def refused(folder: Path, written: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, written)
    said = str(caught.value)
    assert said.startswith(str(folder / "all.json")) and "\n" not in said
    return said


@pytest.mark.parametrize(
    "same",
    [
        RING, [[2, 2], [12, 2], [12, 12], [2, 12]], [[[2, 2], [12, 2], [12, 12], [2, 12]]],
        [RING, [1, 1, 5, 5]], [[1, 1, 5, 5], RING], [[], RING],
    ],
    ids=["flat", "pairs", "ring of pairs", "stray ring", "stray ring first", "empty ring"],
)  # fmt: skip
def test_outlines_that_mean_one_thing(
    tmp_path: Path, same: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = read(tmp_path, content([RING]))
    assert capsys.readouterr().out == ""
    found = read(tmp_path, content(same))
    assert all(np.array_equal(found[name], mask) for name, mask in usual.items())
    warned = "annotation 77 (skin) of image" in capsys.readouterr().out
    assert warned == (len(same) == 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "no outline"), (None, "no outline"), ({}, "no outline"), ([[]], "fewer than three points"),
        ([[4, 5]], "fewer than three points"), ([[1, 1, 5, 5]], "fewer than three points"),
        ([[1, 1, 9, 1, 9, 9, 4]], "7 numbers"), ("polygon", "no polygon"), ([["1", "2"]], "no polygon"),
        ([[1, 1, 9, 1, 9, None]], "no polygon"), ([[1, 1, 9, 1, 9, 1e9]], "far beyond the image"),
        ({"counts": [1, 2], "size": [20, 24]}, "run lengths of 3 pixels"),
        ({"counts": [0, 480], "size": [24, 20]}, r"size [24, 20]"),
        ({"counts": "~~~~", "size": [20, 24]}, "damaged"),
        ({"counts": "\u00e9", "size": [20, 24]}, "damaged"),
        ({"counts": [-1, 481], "size": [20, 24]}, "damaged"), ({"size": [20, 24]}, "damaged"),
        ({"counts": [0, 480]}, "damaged"), ({"counts": "PPPPPPPPP", "size": [20, 24]}, "damaged"),
    ],
)  # fmt: skip
def test_outlines_that_mean_nothing(tmp_path: Path, wrong: Any, message: str) -> None:
    said = refused(tmp_path, content(wrong))
    assert message in said and "annotation 77 (skin) of image images/0000.png" in said


def test_an_annotation_without_its_outline(tmp_path: Path) -> None:
    written = content()
    del written["annotations"][-1]["segmentation"]
    assert "annotation 77 (skin) of image images/0000.png has no outline" in refused(
        tmp_path, written
    )


def test_ids_as_text_and_categories_told_twice(tmp_path: Path) -> None:
    usual = read(tmp_path, content([RING]))
    written = content([RING])
    for annotation in written["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    for category in written["categories"]:
        category["id"] = str(category["id"])
    written["categories"].append(dict(written["categories"][0]))
    found = read(tmp_path, written)
    assert all(np.array_equal(found[name], mask) for name, mask in usual.items())


def test_ids_that_mean_two_things_or_nothing(tmp_path: Path) -> None:
    written = content([RING])
    written["categories"].append({"id": 7, "name": "skin"})
    assert "gives the id" in refused(tmp_path, written)
    written = content([RING], image_id=99)
    assert "annotation 77 is of image 99, which is not in the file" in refused(tmp_path, written)
    written = content([RING], category_id=99)
    assert "annotation 77 is of category 99, which is not in the file" in refused(tmp_path, written)
    for wrong in (None, 1.5, True, [1]):
        assert "annotation 77" in refused(tmp_path, content([RING], image_id=wrong))
    written = content([RING])
    written["images"].append({**written["images"][0], "file_name": "0001.png"})
    assert "gives the id 0 to both" in refused(tmp_path, written)
    written = content([RING])
    written["images"].append({**written["images"][0], "id": 50, "file_name": "b/0000.jpg"})
    assert "two images named 0000" in refused(tmp_path, written)


def test_a_size_is_checked_before_memory_is_taken(tmp_path: Path) -> None:
    written = content([RING])
    written["images"][0] |= {"height": 10**9, "width": 10**9}
    with pytest.raises(UserError, match="1000000000x1000000000 pixels but its image is 24x20"):
        read(tmp_path, written)


def test_annotations_that_later_ones_cover_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = content([[0, 0, 24, 0, 24, 18, 0, 18]])
    read(tmp_path, written)
    (line,) = capsys.readouterr().out.splitlines()  # that skin covers skin takes nothing away
    assert "(hair) of image images/0000.png is covered wholly by later shapes" in line


def test_coordinates_beyond_the_border_are_cut(tmp_path: Path) -> None:
    mask = read(tmp_path, content([[-5, 12, 40, 12, 40, 40, -5, 40]]))["0000"]
    assert (mask[13:] == 1).all()
