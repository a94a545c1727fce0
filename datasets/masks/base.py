"""What all mask formats share: a file, the images and classes that masks are for, and colours."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from common.errors import UserError
from datasets.image_files import UNREADABLE
from datasets.labels import LabelSet, Mask

Size = tuple[int, int]  # height and width
RGB = tuple[int, int, int]
_WHITE = (255, 255, 255)


class FoundMask(NamedTuple):
    """A mask as a format gives it.

    Attributes:
        image: name of its image, without ending.
        source: where it comes from, for error texts.
        mask: class indices, uint8 [H, W].
    """

    image: str
    source: str
    mask: Mask


class MaskFile:
    """A file that may hold masks.

    Args:
        place: the file, in a folder or in a zip file.
        beside: all files of the same folder or zip file, this one among them.
    """

    def __init__(self, place: Traversable, beside: Sequence[Traversable]) -> None:
        self.place, self.beside = place, beside
        self.name, self.ending = place.name, PurePosixPath(place.name).suffix.lower()

    def __str__(self) -> str:
        return str(self.place)

    @cached_property
    def content(self) -> bytes:
        """Its bytes."""
        try:
            return self.place.read_bytes()
        except UNREADABLE as error:
            raise UserError(f"{self} cannot be read ({error}).") from error

    @cached_property
    def json(self) -> dict[str, Any] | None:
        """The object of a JSON file; none where it is no JSON file or holds something else."""
        if self.ending != ".json":
            return None
        with naming_damage(self, "JSON"):
            content = json.loads(self.content)
        return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Target:
    """The images that masks are read for, and the classes that they are read in.

    Args:
        labels: the label set.
        sizes: height and width of every image, by its file name without ending.
    """

    labels: LabelSet
    sizes: Mapping[str, Size]

    def image_of(self, file_name: str, source: object) -> str:
        """The image that a file name means: the name without folder and ending.

        Raises:
            UserError: there is no such image.
        """
        name = PurePosixPath(file_name.replace("\\", "/")).stem
        if name not in self.sizes:
            some = ", ".join(sorted(self.sizes)[:3])
            raise UserError(f"{source}: there is no image {name} (there are {some}, ...).")
        return name

    def class_of(self, label: str, source: object) -> int:
        """The index of a class name.

        Raises:
            UserError: the label set does not have it.
        """
        if (index := self.labels.index(label)) is None:
            raise UserError(
                f"{source}: the label {label} is not in the label set "
                f"({', '.join(self.labels.names)}); rename it there, or add it to `merges`."
            )
        return index


class MaskFormat(Protocol):
    """A format; a module with these two functions is one."""

    def claims(self, file: MaskFile) -> bool:
        """Whether the file is of this format."""

    def read(self, file: MaskFile, target: Target) -> Iterable[FoundMask]:
        """The masks of a file that is claimed.

        Raises:
            UserError: a mask is wrong; KeyError, TypeError, ValueError or IndexError: the file is damaged.
        """


@contextmanager
def naming_damage(file: MaskFile, format_name: str) -> Iterator[None]:
    """Turn what damaged contents raise into one sentence that names the file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{file} is damaged or not valid {format_name} ({type(error).__name__}: {error}); export it "
            "again."
        ) from error


def open_png(content: bytes, source: object) -> Image.Image:
    """An image from its bytes, read whole.

    Raises:
        UserError: it cannot be read.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UNREADABLE as error:
        raise UserError(f"{source} holds no readable image ({error}).") from error
    return image


def read_colours(
    image: Image.Image, colours: Mapping[RGB, str], target: Target, source: object
) -> Mask:
    """Colours -> class indices; white is ignored, unless a class has it.

    Args:
        colours: names of classes by their RGB.

    Raises:
        UserError: a pixel has another colour.
    """
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    mask = np.full(packed.shape, target.labels.ignore_index, np.uint8)
    for value in np.unique(packed).tolist():
        colour = (value >> 16, (value >> 8) & 255, value & 255)
        if colour in colours:
            mask[packed == value] = target.class_of(colours[colour], source)
        elif colour != _WHITE:
            y, x = np.argwhere(packed == value)[0].tolist()
            raise UserError(
                f"{source} has the colour {colour} at column {x}, row {y}, which is no class's; "
                "save without smoothing, in the label set's colours."
            )
    return mask
