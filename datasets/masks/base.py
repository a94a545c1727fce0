"""What all mask formats share: a file, and the images and classes that masks are for."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

from common.archives import decode_text, read_file
from common.errors import UserError, brief
from datasets.labels import LabelSet, Mask, check_size
from datasets.mask_images import Palette

Size = tuple[int, int]  # height and width


class FoundMask(NamedTuple):
    """A mask as a format gives it.

    Attributes:
        image: name of its image, without ending.
        source: where it comes from, for error texts.
        mask: class indices, uint8 [H, W].
        remarks: what a person should know of it, such as shapes that others cover.
    """

    image: str
    source: str
    mask: Mask
    remarks: tuple[str, ...] = ()


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
        return read_file(self.place)

    @property
    def text(self) -> str:
        """Its content as text.

        Raises:
            UserError: it is not UTF-8.
        """
        return decode_text(self.content, self)

    @cached_property
    def json(self) -> dict[str, Any] | None:
        """The object of a JSON file; none where it is no JSON file or holds something else."""
        if self.ending != ".json":
            return None
        text = self.text
        with naming_damage(self, "JSON"):
            content = json.loads(text)
        return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Target:
    """The images that masks are read for, and the classes that they are read in.

    Args:
        labels: the label set.
        sizes: height and width of every image, by its file name without ending.
        palette: what palette images mean, as `read_indices` explains.
    """

    labels: LabelSet
    sizes: Mapping[str, Size]
    palette: Palette = "auto"

    @staticmethod
    def stem(file_name: str) -> str:
        """A file name without folder and ending; accents are one character, however they were written."""
        return unicodedata.normalize("NFC", PurePosixPath(file_name.replace("\\", "/")).stem)

    def image_of(self, file_name: str, source: object) -> str:
        """The image that a file name means: the name without folder and ending.

        Raises:
            UserError: there is no such image.
        """
        name = self.stem(file_name)
        if name not in self.sizes:
            same = [own for own in self.sizes if self.stem(own + ".") == name]
            if len(same) == 1:
                return same[0]
            some = ", ".join(sorted(self.sizes)[:3])
            raise UserError(f"{source}: there is no image {name} (there are {some}, ...).")
        return name

    def check_size(self, image: str, size: Size, source: object) -> None:
        """Check the size of a mask before it is made.

        Raises:
            UserError: it is not that of its image.
        """
        check_size(size, source, self.sizes[image])

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
def naming_damage(file: object, format_name: str) -> Iterator[None]:
    """Turn what damaged contents raise into one sentence that names the file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        yield
    except (
        KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{file} is damaged or not valid {format_name} ({type(error).__name__}: {brief(error)}); "
            "export it again."
        ) from error
