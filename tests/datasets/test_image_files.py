import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from datasets.image_files import centre_square, centre_square_mask, find_images, open_image


def test_a_folder_and_a_zip_file_hold_the_same_images(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, colour in (("b.png", "red"), ("more/a.JPG", "blue")):
        Image.new("RGB", (8, 6), colour).save(folder / name, "PNG")
    (folder / "notes.txt").write_text("not a image")
    (folder / ".hidden.png").write_text("not a image")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    for source in (folder, tmp_path / "photos.zip"):
        images = find_images(source)
        assert sorted(images) == ["a", "b"]
        assert open_image(images["b"]).getpixel((0, 0)) == (255, 0, 0)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor a zip"):
        find_images(tmp_path / "none")
    with pytest.raises(UserError, match="holds no images"):
        find_images(tmp_path)
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(UserError, match="two images named a"):
        find_images(tmp_path)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError, match=r"b\.png is not a readable image"):
        open_image(tmp_path / "b.png")


def test_photographs_stand_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (4, 8)


def test_what_cannot_be_read_is_named_whatever_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((40, 40), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    packed = (tmp_path / "photos.zip").read_bytes()
    damaged = packed.replace(whole, whole[:-40] + bytes(10) + whole[-30:])
    (tmp_path / "photos.zip").write_bytes(damaged)
    with pytest.raises(UserError, match=r"photos\.zip/a\.png is damaged in its zip file"):
        open_image(find_images(tmp_path / "photos.zip")["a"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"a\.png is not a readable image"):
        open_image(tmp_path / "a.png")


def test_grey_of_sixteen_bits_keeps_its_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    read = np.asarray(open_image(tmp_path / "a.png"))
    assert np.array_equal(read[..., 0].ravel(), np.arange(256))


def test_image_and_mask_are_cropped_alike() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    image = Image.fromarray(np.dstack([mask * 200] * 3))
    small, small_mask = centre_square(image, 20), centre_square_mask(mask, 20)
    assert small.shape == (3, 20, 20) and small_mask.shape == (20, 20)
    assert np.array_equal(small[0].numpy() > 100, small_mask == 1)
    assert small_mask.sum() == 100
