"""The one reader of images: every kind of file that people have, and what is wrong with some."""

import struct
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, features

from common.images import Array, UnreadableImage, read_rgb
from datasets.image_files import open_image
from student.predict.sources import Source

GREY = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # 64 x 48


@pytest.fixture
def colours() -> Image.Image:
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([x * 4, y * 5, 255 - x * 3], -1).astype(np.uint8))


def read(path: Path) -> Array:
    """As training reads it, which is how `predict` reads it."""
    seen = np.asarray(open_image(path))
    assert np.array_equal(seen, Source(path, PurePosixPath(path.name)).read(1))
    return seen


def near(a: Array, b: Array, shades: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) <= shades


@pytest.mark.parametrize(
    ("name", "shades"),
    [
        ("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.ppm", 0), ("a.tga", 0), ("a.jfif", 3), ("a.jpe", 3),
        ("a.webp", 5), ("a.jp2", 3), ("a.avif", 5), ("a.gif", 12),
    ],
)  # fmt: skip
def test_every_format(tmp_path: Path, colours: Image.Image, name: str, shades: float) -> None:
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kind = {"jfif": "JPEG", "jpe": "JPEG"}.get(name[2:])
    colours.save(tmp_path / name, kind)
    assert near(read(tmp_path / name), np.asarray(colours), shades)


def test_heic_needs_a_package_and_says_so(tmp_path: Path, colours: Image.Image) -> None:
    try:
        import pillow_heif
    except ImportError:
        head = b"\0\0\0\x18ftypheic" + bytes(200)
        (tmp_path / "a.heic").write_bytes(head)
        with pytest.raises(UnreadableImage, match="pip install pillow-heif"):
            read_rgb(tmp_path / "a.heic")
        return
    pillow_heif.register_heif_opener()
    colours.save(tmp_path / "a.heic", quality=95)
    assert near(read(tmp_path / "a.heic"), np.asarray(colours), 6)


def test_grey_of_any_depth_has_its_shades(tmp_path: Path) -> None:
    kinds: dict[str, npt.NDArray[Any]] = {
        "8.png": GREY, "16.png": GREY.astype(np.uint16) * 257, "32.tif": GREY.astype(np.int32) * 257,
        "32small.tif": GREY.astype(np.int32), "one.tif": GREY.astype(np.float32) / 255,
        "whole.tif": GREY.astype(np.float32),
    }  # fmt: skip
    for name, array in kinds.items():
        Image.fromarray(array).save(tmp_path / name)
        assert near(read(tmp_path / name), np.dstack([GREY] * 3), 1), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 70000.0])
def test_values_that_are_no_shades_are_refused(tmp_path: Path, value: float) -> None:
    array = GREY.astype(np.float32)
    array[0, 0] = value
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match="save shades of 0-1, 0-255 or 0-65535"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("hidden", [(0, 0, 0), (200, 30, 10)])
def test_transparency_becomes_white(tmp_path: Path, hidden: tuple[int, int, int]) -> None:
    image = np.full((8, 8, 4), (10, 20, 30, 255), np.uint8)
    image[:4] = (*hidden, 0)
    image[4] = (0, 0, 0, 127)
    Image.fromarray(image).save(tmp_path / "a.png")
    seen = read(tmp_path / "a.png")
    assert (seen[:4] == 255).all() and (seen[5:] == (10, 20, 30)).all() and (seen[4] == 128).all()


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.eye(4, dtype=np.uint8))
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.save(tmp_path / "a.png", transparency=0)
    seen = read(tmp_path / "a.png")
    assert (seen[0, 1] == 255).all() and seen[0, 0].tolist() == [50, 60, 70]


def test_images_stand_upright_and_the_first_of_several_is_read(
    tmp_path: Path, colours: Image.Image
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    colours.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), np.rot90(np.asarray(colours), -1))
    colours.save(tmp_path / "b.tif", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    assert np.array_equal(read(tmp_path / "b.tif"), np.asarray(colours))


def wide_gamut() -> bytes:
    """A profile whose red, green and blue are those of sRGB in another order: nothing else is so plain."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {}
    for i in range(struct.unpack_from(">I", profile, 128)[0]):
        name, start, _ = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        entries[name] = start
    red, green = (bytes(profile[entries[k] : entries[k] + 20]) for k in (b"rXYZ", b"gXYZ"))
    profile[entries[b"rXYZ"] : entries[b"rXYZ"] + 20] = green
    profile[entries[b"gXYZ"] : entries[b"gXYZ"] + 20] = red
    return bytes(profile)


def test_colours_of_a_profile_become_those_of_srgb(tmp_path: Path, colours: Image.Image) -> None:
    seen = np.asarray(colours)
    colours.save(tmp_path / "a.png", icc_profile=wide_gamut())
    assert near(read(tmp_path / "a.png"), seen[..., [1, 0, 2]], 2)
    alpha = colours.copy()
    alpha.putalpha(255)
    alpha.save(tmp_path / "b.png", icc_profile=wide_gamut())
    assert near(read(tmp_path / "b.png"), seen[..., [1, 0, 2]], 2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (
        srgb,
        b"no profile",
        wide_gamut()[:300],
    ):  # nothing to do, or nothing that can be done
        colours.save(tmp_path / "c.png", icc_profile=profile)
        assert np.array_equal(read(tmp_path / "c.png"), seen)
    colours.convert("L").save(tmp_path / "d.png", icc_profile=wide_gamut())  # of another kind
    assert near(read(tmp_path / "d.png"), np.asarray(colours.convert("L").convert("RGB")), 0)


def test_cmyk(tmp_path: Path, colours: Image.Image) -> None:
    colours.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert near(read(tmp_path / "a.jpg"), np.asarray(colours), 6)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def damaged(whole: bytes) -> dict[str, bytes]:
    """What may happen to a PNG, by what the sentence says."""
    at = whole.index(b"IDAT") - 4
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 << 20)))
    return {
        "checksum of its chunk IDAT": whole[: at + 30] + bytes([whole[at + 30] ^ 1]) + whole[at + 31 :],
        "cut off": whole[:-20], "it is empty": b"", "Decompressed data": whole[:at] + text + whole[at:],
        "damaged or none of": b"\x89PNG" + whole[8:], "damaged": whole[:at] + bytes(12) + whole[at:],
    }  # fmt: skip


def test_damaged_pngs_are_refused(tmp_path: Path, colours: Image.Image) -> None:
    colours.save(tmp_path / "a.png")
    for message, content in damaged((tmp_path / "a.png").read_bytes()).items():
        with pytest.raises(UnreadableImage, match=message) as refused:
            read_rgb(content)
        assert "\n" not in str(refused.value) and "BytesIO" not in str(refused.value)
