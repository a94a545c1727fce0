"""Files that failed for people who do this job, where they lie beside the checkout.

Other tests of this folder make each kind of them, so that nothing is lost where they do not.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.files import read_json
from datasets.annotations import read_annotated
from datasets.labels import LabelSet, Mask, read_mask
from datasets.masks import read_masks
from datasets.photographs import Photographs
from tests.conftest import ROOT

CASES = ROOT.parent / "shared/cases"
ANNOTATED = ROOT / "assets/faces64/annotated_train"
NAMES = ("0000", "0001", "0002")

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases beside the checkout")


@pytest.fixture(scope="module")
def truth() -> dict[str, Mask]:
    labels = LabelSet.load(ROOT / "configs/labels/face8.yaml")
    return {name: read_mask(ANNOTATED / f"masks/{name}.png", labels, (64, 64)) for name in NAMES}


def read(case: str, labels: LabelSet) -> dict[str, Mask]:
    return read_masks(CASES / case, labels, dict.fromkeys(NAMES, (64, 64)))


@pytest.mark.parametrize(
    ("case", "differ"),
    [
        ("palette_order/frequency", 0), ("alpha/hidden", 0), ("alpha/white", 0), ("zip_files/masks.zip", 0),
        ("encodings/cvat-bom", 0), ("encodings/cvat-plain", 0), ("encodings/bom", 1),
        ("labelme_mask_beyond_border/none", 1), ("labelme_mask_beyond_border/above", 1),
        ("labelme_mask_beyond_border/corner", 1), ("covered_shapes/big-first", 1),
    ],
)  # fmt: skip
def test_right(case: str, differ: int, truth: dict[str, Mask], labels: LabelSet) -> None:
    """`differ`: pixels at which outlines drawn after a mask differ from it."""
    for name, mask in read(case, labels).items():
        assert (mask != truth[name]).sum() <= differ


@pytest.mark.parametrize(
    ("case", "box"), [("left", (30, 0, 41, 8)), ("right", (30, 58, 41, 63))], ids=["left", "right"]
)
def test_masks_beyond_the_border(
    case: str, box: tuple[int, int, int, int], truth: dict[str, Mask], labels: LabelSet
) -> None:
    top, left, bottom, right = box
    mask = read(f"labelme_mask_beyond_border/{case}", labels)["0000"]
    inside = np.zeros((64, 64), bool)
    inside[top : bottom + 1, left : right + 1] = True
    ear = labels.names.index("ear")
    assert (mask[inside] == ear).mean() > 0.7  # the drawn mask is round
    assert (mask != truth["0000"])[~inside].sum() <= 1


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_four_points(kind: str, labels: LabelSet) -> None:
    mask = read(f"labelme_four_point_shapes/{kind}", labels)["0000"]
    assert (mask[30:35, 28:37] == labels.names.index("nose")).all()


def test_names_of_the_label_set(truth: dict[str, Mask], labels: LabelSet) -> None:
    box = (slice(30, 35), slice(30, 35))
    assert (read("covered_shapes/hole", labels)["0000"][box] == 0).all()
    assert (read("covered_shapes/ignore", labels)["0000"][box] == 255).all()
    own = LabelSet.load(CASES / "encodings/labels.yaml")
    for case in ("utf8", "cvat-cyrillic-utf8"):
        assert (read(f"encodings/{case}", own)["0000"] != truth["0000"]).sum() <= 1


def test_covered_shapes(labels: LabelSet, capsys: pytest.CaptureFixture[str]) -> None:
    read("covered_shapes/small-first", labels)
    said = capsys.readouterr().out
    for part in ("mouth", "eye", "eyebrow", "nose"):
        assert f"({part}) of image 0000 is covered wholly" in said


def test_coco_outlines_and_ids(labels: LabelSet, capsys: pytest.CaptureFixture[str]) -> None:
    usual = read("coco_ids/strings.json", labels)["0000"]
    first = read("coco_two_point_ring/first.json", labels)["0000"]
    assert np.array_equal(first, usual) and "annotation 1 (hair)" in capsys.readouterr().out
    for case in ("flat", "pairs"):
        mask = read(f"coco_segmentations/{case}.json", labels)["0000"]
        assert mask[3, 7] == labels.names.index("ear")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("coco_segmentations/empty.json", "annotation 900 (skin) of image 0000.png has no outline"),
        ("coco_segmentations/nokey.json", "annotation 901 (skin) of image 0000.png has no outline"),
        ("coco_segmentations/null.json", "annotation 3 (ear) of image 0000.png has no outline"),
        ("coco_segmentations/emptyring.json", "annotation 3 (ear) of image 0000.png has an outline of"),
        ("coco_segmentations/onepoint.json", "annotation 3 (ear) of image 0000.png has an outline of"),
        ("coco_segmentations/odd.json", "annotation 3 (ear) of image 0000.png has an outline of 7 numbers"),
        ("coco_two_point_ring/stray.json", "annotation 999 (hair) of image 0000.png has an outline of"),
        ("coco_ids/samecat.json", "gives the id 1 to both skin and nose"),
        ("encodings/gbk", "0000.json is in another encoding than UTF-8"),
        ("encodings/cvat-cp1251", "labelmap.txt is in another encoding than UTF-8"),
        ("zip_files/masks-badcrc.zip", "masks-badcrc.zip/0000.png is damaged in its zip file"),
        ("zip_files/masks-deflate64.zip", "masks-deflate64.zip/0000.png is packed by a method"),
        ("zip_files/masks-encrypted.zip", "masks-encrypted.zip/0000.png is encrypted"),
        *((f"damaged_png/{case}", "0000.png is not a readable image")
          for case in ("chunk", "crc", "cut", "empty", "palette", "text")),
    ],
)  # fmt: skip
def test_refused(case: str, message: str, labels: LabelSet) -> None:
    with pytest.raises(UserError) as refused:
        read(case, labels)
    assert message in str(refused.value) and str(refused.value).isprintable()


@pytest.mark.parametrize("case", ["ann", "ann2", "ann3"])
def test_damaged_annotated_folders(case: str, labels: LabelSet) -> None:
    folder = CASES / "damaged_png" / case
    with pytest.raises(UserError, match=r"0000\.png is not a readable image"):
        read_annotated(folder, labels, read_json(folder / "samples.json")["generator"])


@pytest.mark.parametrize(
    ("case", "count"),
    [
        ("same_names_in_folders/photos", 12), ("same_names_in_folders/photos.zip", 12),
        ("photographs/photos", 13), ("zip_files/photos.zip", 6), ("zip_files/photos-badcrc.zip", 5),
        ("zip_files/photos-deflate64.zip", 0), ("zip_files/photos-encrypted.zip", 0),
    ],
)  # fmt: skip
def test_photographs(
    case: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not count:
        with pytest.raises(UserError, match=r"photos/000\.bmp is (packed by|encrypted)"):
            Photographs(CASES / case, 32, tmp_path / "packed")
        return
    photographs = Photographs(CASES / case, 32, tmp_path / "packed")
    assert len(photographs) == count
    means = [float(photographs[0, i].float().mean()) for i in range(count)]
    assert all(40 < mean < 190 for mean in means), "none is black or white"
    if case.startswith("photographs"):
        assert "left out: 3 of .heic" in capsys.readouterr().out


def test_the_photograph_of_one_face_is_the_same_in_every_format() -> None:
    from datasets.image_files import open_image

    folder = CASES / "photographs/photos"
    grey = np.asarray(open_image(folder / "grey.jpg"), float)
    for name in ("float.tif", "float255.tif", "int32.tif", "sixteen.png"):
        assert np.abs(np.asarray(open_image(folder / name), float) - grey).mean() < 2
    face = np.asarray(open_image(folder / "scan.jp2"), float)
    for name in ("cmyk.jpg", "anim.gif"):
        assert np.abs(np.asarray(open_image(folder / name), float) - face).mean() < 4
    cut_out, zeroed = (
        np.asarray(open_image(folder / f"cut-out{end}.png"), float) for end in ("", "-zeroed")
    )
    assert np.abs(cut_out - zeroed).max() <= 1
    with Image.open(folder / "cut-out.png") as image:
        clear = np.asarray(image.getchannel("A")) == 0
    assert (cut_out[clear] == 255).all()
