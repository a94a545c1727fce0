"""Photographs as people have them in folders and zip files: all that can be read is, the rest is named."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datasets.image_files import find_images, left_out, list_images, open_image
from datasets.photographs import Photographs, read_kept_back


def save(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (shade, shade, shade)).save(path, "PNG")


def shades(photographs: Photographs) -> list[int]:
    return sorted(int(photographs[0, i].float().mean()) for i in range(len(photographs)))


def test_equal_names_in_folders_are_different_photographs(tmp_path: Path) -> None:
    names = ("anna/001.png", "ben/001.png", "ben/001.jpg")
    for i, name in enumerate(names):
        save(tmp_path / "in" / name, 40 * i)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "in" / name, name)
    for source in ("in", "in.zip"):
        assert shades(Photographs(tmp_path / source, 8, tmp_path / f"{source}.bin")) == [0, 40, 80]
        with pytest.raises(
            UserError, match="two images named 001"
        ):  # where a mask goes by the name
            find_images(tmp_path / source)


def test_what_is_passed_over_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        save(tmp_path / f"in/{i}.png", 10 * i)
    for name in ("a.HEIC", "b.HEIC"):
        (tmp_path / "in" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "in/empty.jpg").touch()
    (tmp_path / "in/clip.mov").write_bytes(b"video")
    (tmp_path / "in/README").write_text("text")
    assert len(Photographs(tmp_path / "in", 8, tmp_path / "packed")) == 3
    said = capsys.readouterr().out
    assert "left out: 2 of .heic (" in said and "a.HEIC, " in said and "b.HEIC\n" in said
    assert "left out: 1 of .jpg (it is empty): " in said
    assert (
        "left out: 1 of .mov (no image): " in said and "left out: 1 of no ending (no image)" in said
    )
    assert "3 photographs of" in said and "5 left out" in said


def test_where_nothing_can_be_read_the_reason_is_told(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_text("no image")
    with pytest.raises(
        UserError, match=r"has 0 readable images, and a generator needs many; .*0\.jpg is not"
    ):
        Photographs(tmp_path, 8, tmp_path / "packed.bin")


def test_many_files_of_a_kind_are_counted(tmp_path: Path) -> None:
    (line,) = left_out((tmp_path / f"{i}.cr2", "no image") for i in range(30))
    assert line.startswith("left out: 30 of .cr2") and line.endswith(" and 10 more")


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate((b"caf\xe9.png", b"\xc4\xe3.png", b"\xff.txt", b"\x1b[2J.jpg")):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
        save(path, 20 * i)
    (tmp_path / "in/damaged\udce9.png").write_bytes(b"x")
    assert len(Photographs(tmp_path / "in", 8, tmp_path / "packed")) == 3
    said = capsys.readouterr().out
    assert "\\udcff.txt" in said and "\\udce9.png" in said
    said.encode("utf-8")  # a terminal takes it
    with pytest.raises(UserError) as refused:
        open_image(tmp_path / "in/damaged\udce9.png")
    assert str(refused.value).isprintable()


def test_a_link_that_leads_in_a_circle(tmp_path: Path) -> None:
    save(tmp_path / "in/a/1.png", 3)
    (tmp_path / "in/a/again").symlink_to(tmp_path / "in")
    assert len(list_images(tmp_path / "in").images) == 1


def test_a_cut_out_stands_on_white(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, 4:] = (9, 9, 9, 255)
    for name in ("a.png", "b.png"):
        Image.fromarray(image).save(tmp_path / name)
    packed = Photographs(tmp_path, 8, tmp_path / "packed.bin")[0, 0]
    assert (packed[..., :4] == 255).all() and (packed[..., 4:] == 9).all()


def test_some_are_kept_back_and_stay_the_same(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / f"in/{i % 3}/{i}.png", 10 * i)
    kept = read_kept_back(tmp_path / "in", 8, 4)
    learned = Photographs(tmp_path / "in", 8, tmp_path / "packed", kept_back=4)
    seen = sorted(int(image.float().mean()) for image in kept)
    assert len(kept) == 4 and len(learned) == 8
    assert sorted([*seen, *shades(learned)]) == [10 * i for i in range(12)]
    moved = shutil.copytree(tmp_path / "in", tmp_path / "elsewhere")
    save(moved / "0/one_more.png", 200)
    again = sorted(int(image.float().mean()) for image in read_kept_back(moved, 8, 4))
    assert len(set(again) & set(seen)) >= 3  # the new one may take a place
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "in").as_posix())
    assert torch.equal(read_kept_back(tmp_path / "in.zip", 8, 4), kept)


def test_keeping_back_nearly_all_is_refused(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"in/{i}.png", 10 * i)
    with pytest.raises(UserError, match=r"has 5 photographs, and 4 of them .*kept_back"):
        Photographs(tmp_path / "in", 8, tmp_path / "packed", kept_back=4)


def test_unreadable_ones_among_those_kept_back_are_passed_over(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / f"in/{i}.png", 10 * i)
    whole = read_kept_back(tmp_path / "in", 8, 3)
    number = round(float(whole[0].float().mean()) / 10)
    (tmp_path / f"in/{number}.png").write_bytes(b"")
    assert torch.equal(read_kept_back(tmp_path / "in", 8, 3), whole[1:])
    for i in range(6):
        (tmp_path / f"in/{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_kept_back(tmp_path / "in", 8, 3)
