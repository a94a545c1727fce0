"""The one reader of images as people have them: any format, mode and orientation -> RGB.

Training, annotation, test sets and `student.predict` all see what this file reads. Needs numpy and Pillow;
imports neither torch nor timm.
"""

import io
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from common.archives import LARGEST
from common.colour_profiles import in_srgb
from common.errors import brief

Array = npt.NDArray[np.uint8]
# Formats that Pillow reads by itself, unlike those that it hands to another program, such as PostScript;
# HEIF where the package pillow-heif is installed.
FORMATS = (
    "JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "HEIF",
)  # fmt: skip
# Endings of files that are taken for images. Those of HEIC are among them without the package, too: such
# files should not be passed over in silence.
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".tga", ".heic",
    ".heif", ".hif",
}  # fmt: skip
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_PNG = b"\x89PNG\r\n\x1a\n"


class UnreadableImage(Exception):
    """Why an image cannot be read: a part of a sentence, without the file's name."""


def read_rgb(content: bytes | Path, megapixels: float | None = None) -> Array:
    """An image as RGB, uint8 [H, W, 3]; the first of several in one file.

    It is turned upright by its EXIF data and brought from its colour profile to sRGB. Transparency becomes
    white; 16-bit, 32-bit and floating-point grey is scaled to 8 bits.

    Args:
        content: the file, or what it holds.
        megapixels: larger images are refused; none for Pillow's limit of 179.

    Raises:
        UnreadableImage: it cannot be read.
    """
    if isinstance(content, Path):
        content = _content(content)
    image = decode(content, megapixels)
    try:
        return _as_rgb(ImageOps.exif_transpose(image))
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(brief(error)) from error


def decode(content: bytes, megapixels: float | None = None) -> Image.Image:
    """An image as Pillow decodes it, read whole.

    Raises:
        UnreadableImage: it cannot be read.
    """
    if content.startswith(_PNG):
        _check_png(content)
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
        if megapixels is not None and image.width * image.height > megapixels * 1e6:
            raise UnreadableImage(
                f"{image.width}x{image.height} pixels are more than --megapixels {megapixels:g}"
            )
        image.load()
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(_unidentified(content)) from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        raise UnreadableImage(brief(error)) from error
    return image


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise UnreadableImage("it is larger than 1 GiB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow and its plugins have."""
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _unidentified(content: bytes) -> str:
    """Why Pillow does not know a file."""
    if not content:
        return "it is empty"
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and "HEIF" not in _formats():
        return "HEIC is read where the package pillow-heif is installed: pip install pillow-heif"
    return f"it is damaged or none of {', '.join(_formats())}"


def _check_png(content: bytes) -> None:
    """That all chunks are whole: Pillow does not look at the checksums of pixels.

    Raises:
        UnreadableImage: a chunk is damaged, or the end is missing.
    """
    view, start = memoryview(content), len(_PNG)
    while start + 12 <= len(view):
        kind, end = (
            bytes(view[start + 4 : start + 8]),
            start + 8 + int.from_bytes(view[start : start + 4]),
        )
        if end + 4 > len(view):
            break
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4]):
            name = kind.decode("latin-1")
            raise UnreadableImage(f"the checksum of its chunk {name} is wrong: the PNG is damaged")
        if kind == b"IEND":
            return
        start = end + 4
    raise UnreadableImage("the PNG is cut off or damaged")


def _as_rgb(image: Image.Image) -> Array:
    """Any mode as RGB [H, W, 3]."""
    if image.mode[0] in "IF":  # grey of 16 or 32 bits, which Pillow would cut off at 255
        return np.repeat(_eight_bits(image)[..., None], 3, 2)
    alpha = None
    if image.has_transparency_data:
        profile = image.info.get("icc_profile")
        grey = image.mode.startswith("L")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("L" if grey and profile else "RGB")
        image.info["icc_profile"] = profile
    image = in_srgb(image)
    if alpha is not None:
        image.putalpha(alpha)
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return np.array(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> Array:
    """Grey of 16 or 32 bits or of floating point, [H, W], scaled by what its values can only mean.

    Raises:
        UnreadableImage: it has values that are no shades.
    """
    grey = np.asarray(image, np.float32)
    lowest, highest = float(grey.min(initial=0)), float(grey.max(initial=0))
    if not (lowest >= 0 and highest <= 65535):  # also true of NaN
        raise UnreadableImage(
            f"its values reach from {lowest:g} to {highest:g}; save shades of 0-1, 0-255 or 0-65535"
        )
    top = 1 if image.mode == "F" and highest <= 1 else 255 if highest <= 255 else 65535
    if image.mode.startswith("I;16"):
        top = 65535
    return (grey * (255 / top)).clip(0, 255).astype(np.uint8)
