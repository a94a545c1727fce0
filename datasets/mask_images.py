"""Images of masks -> class indices, by index or by colour; what is transparent is the first class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from common.errors import UserError, brief
from common.images import UnreadableImage, decode

Palette = Literal["auto", "index", "colour"]
RGB = tuple[int, int, int]
Indices = npt.NDArray[np.uint8]  # [H, W]
ClassOf = Callable[[RGB], int | None]  # the index of a colour; none where no class has it
_CHOOSE = "say which with the option palette: index or colour"


@dataclass(frozen=True)
class Classes:
    """What the pixels of a mask may mean.

    Args:
        count: number of classes.
        ignore_index: index of pixels that do not count.
        colours: index of each colour, that of ignored pixels among them.
    """

    count: int
    ignore_index: int
    colours: Mapping[RGB, int]

    def are_real(self, indices: list[int | None]) -> bool:
        """Whether these are indices, of two classes at least: what a whole mask has."""
        own = {i for i in indices if i != self.ignore_index}
        return len(own) > 1 and all(i is not None and i < self.count for i in own)


def open_mask(content: bytes, source: object) -> Image.Image:
    """An image whose pixels mean classes.

    Raises:
        UserError: it cannot be read, or its format does not keep the pixels.
    """
    try:
        image = decode(content)
        if image.format in ("JPEG", "MPO"):
            raise UnreadableImage(
                "JPEG, which mixes the classes of neighbouring pixels; save it as PNG"
            )
        return ImageOps.exif_transpose(image)
    except UnreadableImage as error:
        raise UserError(f"{source} is not a readable image ({error}).") from error
    except Exception as error:  # damaged EXIF data
        raise UserError(f"{source} is not a readable image ({brief(error)}).") from error


def read_indices(
    image: Image.Image, classes: Classes, palette: Palette, source: object, is_ours: bool = False
) -> Indices:
    """The class indices of a mask, [H, W].

    A palette image may mean its indices or its colours. `auto` finds out: its colours are those of the
    classes, or its palette is one that says nothing (PASCAL VOC's, a ramp of grey). Grey of up to 16 bits,
    also saved as RGB, means indices; RGB means colours.

    Args:
        is_ours: a file of an annotated folder, whose palette may have the colours of an earlier label set.

    Raises:
        UserError: its pixels can mean nothing, or two things.
    """
    opaque = find_opaque(image, source)
    values, table = _values(image, source)
    if values is None:
        return read_colours(image, classes.colours.get, source)
    used: list[int] = np.unique(values if opaque is None else values[opaque]).tolist()
    by_colour = [classes.colours.get(table[i]) if i < len(table) else None for i in used]
    if image.mode.startswith("I"):
        palette = "index"
    elif palette == "auto":
        palette = _find_meaning(image.mode, used, by_colour, table, classes, source, is_ours)
    if palette == "colour":
        return read_colours(image, classes.colours.get, source)
    if used and used[-1] > 255:
        raise UserError(f"{source} has the value {used[-1]}; class indices are 0-255.")
    mask = values.astype(np.uint8)
    return mask if opaque is None else np.where(opaque, mask, 0).astype(np.uint8)


def _values(image: Image.Image, source: object) -> tuple[npt.NDArray[Any] | None, list[RGB]]:
    """What each pixel holds, [H, W], none where it is a colour; and the colour of each value."""
    ramp = [(i, i, i) for i in range(256)]
    if image.mode in ("P", "PA"):
        entries = image.getpalette() or []
        table = list(zip(*[iter(entries)] * 3, strict=False))
        return np.asarray(image.getchannel(0)), [(r, g, b) for r, g, b in table]
    if image.mode == "1":
        return np.asarray(image, np.uint8), [(0, 0, 0), (255, 255, 255)]
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel(0)), ramp
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min(initial=0) < 0:
            raise UserError(f"{source} has the value {values.min()}; class indices are 0-255.")
        return values, ramp
    if image.mode in ("RGB", "RGBA"):
        red, green, blue = (np.asarray(image.getchannel(i)) for i in range(3))
        is_grey = np.array_equal(red, green) and np.array_equal(green, blue)
        return (red, ramp) if is_grey else (None, [])
    raise UserError(
        f"{source} is an image of mode {image.mode}; a mask holds class indices (palette or grey) or the "
        "label set's colours."
    )


def _find_meaning(
    mode: str, used: list[int], by_colour: list[int | None], table: list[RGB], classes: Classes,
    source: object, is_ours: bool,
) -> Literal["index", "colour"]:  # fmt: skip
    """Whether the values of a mask are indices or stand for colours.

    Args:
        used: the values that occur.
        by_colour: the class of the colour of each.

    Raises:
        UserError: they may be both, or, in a palette image, neither.
    """
    has_palette = mode in ("P", "PA")
    own = [i for i in used if i != classes.ignore_index]
    says_nothing = not has_palette or _says_nothing(own, table, classes.count, is_ours)
    if not says_nothing:  # each class has its colour at its index
        colour_of = dict(zip(used, by_colour, strict=True))
        says_nothing = all(colour_of[i] == i for i in own)
    as_index = says_nothing and classes.are_real(list(used))
    as_colour = classes.are_real(by_colour)
    if as_index and as_colour and by_colour != used:
        raise UserError(
            f"{source} can be read by index and by its colours, with different classes; {_CHOOSE}."
        )
    if as_index or (says_nothing and not as_colour and mode != "RGB" and mode != "RGBA"):
        return "index"
    if as_colour or not has_palette or all(i is not None for i in by_colour):
        return "colour"
    raise UserError(
        f"{source} has a palette that is neither the label set's, nor PASCAL VOC's, nor a ramp of grey; "
        f"{_CHOOSE}."
    )


def _says_nothing(own: list[int], table: list[RGB], count: int, is_ours: bool) -> bool:
    """Whether these entries of a palette only tell indices apart: PASCAL VOC's, a ramp of grey."""
    if own and own[-1] >= len(table):
        return False
    greys = [table[i][0] for i in own]
    rising = all(dark < light for dark, light in pairwise(greys))
    return (
        all(table[i] == _voc_colour(i) for i in own)
        or (rising and all(len({*table[i]}) == 1 for i in own))
        # Ours are white behind the classes.
        or (is_ours and len(table) == 256 and {*table[count:]} == {(255, 255, 255)})
    )


def _voc_colour(index: int) -> RGB:
    """PASCAL VOC's palette: the bits of an index, dealt out to red, green and blue."""
    r, g, b = (
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))
        for channel in range(3)
    )
    return r, g, b


def find_opaque(image: Image.Image, source: object) -> npt.NDArray[np.bool_] | None:
    """Where an image is opaque, [H, W]; none where it has no transparency.

    Raises:
        UserError: a pixel is half transparent.
    """
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    half = (alpha > 0) & (alpha < 255)
    if half.any():
        y, x = np.argwhere(half)[0].tolist()
        raise UserError(
            f"{source} has {int(half.sum())} half-transparent pixels, the first at column {x}, row {y}; "
            "save it without smoothing: what is transparent is the first class, what is opaque its own."
        )
    return alpha > 0


def read_colours(image: Image.Image, class_of: ClassOf, source: object) -> Indices:
    """Colours -> class indices, [H, W]; transparent pixels are the first class.

    Args:
        class_of: index of a colour; none where it means nothing.

    Raises:
        UserError: an opaque pixel has another colour, or one is half transparent.
    """
    opaque = find_opaque(image, source)
    rgb = np.asarray(image.convert("RGBA" if opaque is not None else "RGB"))[..., :3].astype(
        np.int64
    )
    packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    if opaque is not None:
        packed = np.where(opaque, packed, -1)
    mask = np.zeros(packed.shape, np.uint8)
    for value in np.unique(packed).tolist():
        if value < 0:
            continue
        colour = (value >> 16, (value >> 8) & 255, value & 255)
        index = class_of(colour)
        if index is None:
            y, x = np.argwhere(packed == value)[0].tolist()
            raise UserError(
                f"{source} has the colour {colour} at column {x}, row {y}, which is no class's; "
                "save without smoothing, in the label set's colours."
            )
        mask[packed == value] = index
    return mask
