"""Masks in zip files and in CVAT's exports, as they come from other machines."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from datasets.labels import LabelSet
from datasets.masks import read_masks
from tests.datasets.masks.writers import (
    LABELS,
    SIZES,
    cvat_files,
    make_truth,
    png,
    write_files,
)  # fmt: skip


def write_zip(path: Path) -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/0000.png", png(make_truth()))
    return bytearray(path.read_bytes())


def spoil(whole: bytearray, how: str) -> bytes:
    """An archive of another packing method, with a password, a wrong checksum, or cut off."""
    central = whole.index(b"PK\1\2")
    if how == "Deflate64":
        whole[8:10] = whole[central + 10 : central + 12] = struct.pack("<H", 9)
    elif how == "encrypted":
        whole[6] |= 1
        whole[central + 8] |= 1
    elif how == "damaged in its zip file":
        whole[14:18] = whole[central + 16 : central + 20] = b"1234"
    else:
        return bytes(whole[:central])
    return bytes(whole)


@pytest.mark.parametrize("how", ["Deflate64", "encrypted", "damaged in its zip file"])
def test_members_that_cannot_be_read_are_named(tmp_path: Path, how: str) -> None:
    path = tmp_path / "masks.zip"
    whole = write_zip(path)
    assert np.array_equal(read_masks(path, LABELS, SIZES)["0000"], make_truth())
    path.write_bytes(spoil(whole, how))
    with pytest.raises(UserError, match=rf"masks\.zip/in/0000\.png is .*{how}"):
        read_masks(path, LABELS, SIZES)


def test_a_zip_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "masks.zip"
    path.write_bytes(spoil(write_zip(path), "cut"))
    with pytest.raises(UserError, match=r"masks\.zip is a damaged zip file"):
        read_masks(path, LABELS, SIZES)


def test_the_encoding_of_cvats_table(tmp_path: Path) -> None:
    files = cvat_files(make_truth())
    labels = LabelSet(LABELS.names, LABELS.colours, 255, {"hair": ("волосы",)})
    text = files["labelmap.txt"].decode().replace("fringe", "волосы")
    for encoding in ("utf-8", "utf-8-sig"):
        write_files(tmp_path, files | {"labelmap.txt": text.encode(encoding)})
        assert np.array_equal(read_masks(tmp_path, labels, SIZES)["0000"], make_truth())
    write_files(tmp_path, files | {"labelmap.txt": text.encode("cp1251")})
    with pytest.raises(UserError, match=r"labelmap\.txt is in another encoding than UTF-8"):
        read_masks(tmp_path, labels, SIZES)


def test_two_labels_of_one_colour_are_refused(tmp_path: Path) -> None:
    files = cvat_files(make_truth())
    write_files(tmp_path, files | {"labelmap.txt": files["labelmap.txt"] + b"beard:51,221,255::\n"})
    with pytest.raises(UserError, match="gives the colour 51,221,255 to both fringe and beard"):
        read_masks(tmp_path, LABELS, SIZES)


def test_each_export_of_cvat_has_its_own_table(tmp_path: Path) -> None:
    """Two tasks in one folder, whose colours mean different things."""
    truth = make_truth()
    files = cvat_files(truth)
    write_files(tmp_path / "one", files)
    swapped = (
        files["labelmap.txt"]
        .decode()
        .replace("fringe", "x")
        .replace("skin", "fringe")
        .replace("x", "skin")
    )
    other = {n.replace("0000", "0001"): c for n, c in files.items()} | {
        "labelmap.txt": swapped.encode()
    }
    write_files(tmp_path / "two", other)
    masks = read_masks(tmp_path, LABELS, SIZES)
    assert np.array_equal(masks["0000"], truth)
    assert np.array_equal(masks["0001"], np.array([0, 2, 1], np.uint8)[truth])
