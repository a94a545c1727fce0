"""Label sets, and masks as palette PNG files."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.archives import read_file, read_text
from common.errors import UserError, brief
from common.files import atomic_write
from common.images import UnreadableImage, read_rgb
from common.yaml_files import parse_yaml
from datasets.mask_images import Classes, Palette, open_mask, read_indices

_BACKGROUND = "_background_"  # LabelMe's name of unlabelled pixels
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSet:
    """Classes of a segmentation.

    Args:
        names: names of the classes in the order of their indices; the first is that of unlabelled pixels.
        colours: RGB of each class.
        ignore_index: value of pixels that are left out of losses and measures.
        merges: by class, the names of finer classes that are read as this class in masks of another label
            set.
        ignored: labels of pixels that do not count; LabelMe's name for them if nothing is said.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255
    merges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ("__ignore__",)

    @staticmethod
    def load(path: Path) -> "LabelSet":
        """Read a YAML file of the fields above.

        Raises:
            UserError: the file is missing or damaged, or its values contradict each other.
        """
        values = parse_yaml(read_text(path), f"label set {path}")
        try:
            labels = LabelSet(
                _names(values["names"]),
                tuple((int(r), int(g), int(b)) for r, g, b in values["colours"]),
                int(values.get("ignore_index", 255)),
                {
                    str(name): _names(merged)
                    for name, merged in (values.get("merges") or {}).items()
                },
                _names(values["ignored"]) if "ignored" in values else LabelSet.ignored,
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"label set {path} needs `names` and one [r, g, b] in `colours` for each "
                f"({brief(error)})."
            ) from error
        if unknown := {*values} - {field.name for field in dataclasses.fields(LabelSet)}:
            raise UserError(f"label set {path} has the unknown key {min(map(str, unknown))}.")
        if contradiction := labels._contradiction():
            raise UserError(f"label set {path} {contradiction}.")
        return labels

    def _contradiction(self) -> str | None:
        """What about the values cannot be right, as the end of a sentence; none where all is well."""
        names, colours, ignore = self.names, self.colours, self.ignore_index
        ignored = () if self.ignored == LabelSet.ignored else self.ignored
        every = [*names, *(name for group in self.merges.values() for name in group), *ignored]
        if len(names) < 2:
            return "needs two classes at least"
        if len(names) != len(colours):
            return f"has {len(names)} names but {len(colours)} colours"
        if len({*colours}) != len(colours):
            return "gives two classes the same colour"
        if any(not 0 <= c <= 255 for rgb in colours for c in rgb):
            return "has a colour beyond 0-255"
        if twice := {name for name in every if every.count(name) > 1}:
            return f"names {min(twice)} twice"
        if strays := {*self.merges} - {*names}:
            return f"merges into {min(strays)}, no class"
        if ignore < len(names):
            return f"has ignore_index {ignore}, which is also the index of a class"
        if ignore > 255:
            return f"has ignore_index {ignore}; masks hold 0-255"
        return None

    def index(self, name: str) -> int | None:
        """Index of the class of that name, or of the class that it is merged into; none without either.

        What is ignored has the ignore index, and LabelMe's `_background_` that of the first class.
        """
        for i, own in enumerate(self.names):
            if name == own or name in self.merges.get(own, ()):
                return i
        if name in self.ignored:
            return self.ignore_index
        return 0 if name == _BACKGROUND else None

    def table(self, names: Sequence[str]) -> npt.NDArray[np.uint8]:
        """For masks of the classes `names`: their index -> our index, [256]; 255 stays ignored.

        Raises:
            UserError: a name is neither a class here nor merged into one.
        """
        table = np.full(256, self.ignore_index, np.uint8)
        for i, name in enumerate(names):
            if (found := self.index(name)) is None:
                raise UserError(
                    f"the class {name} has no place among {', '.join(self.names)}: add it to the "
                    "label set, or to `merges` there."
                )
            table[i] = found
        return table

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> Classes:
        """What the pixels of a mask's image may mean; white is ignored, unless a class has it."""
        colours = {(255, 255, 255): self.ignore_index}
        colours |= {colour: i for i, colour in enumerate(self.colours)}
        return Classes(len(self), self.ignore_index, colours)

    @property
    def palette(self) -> npt.NDArray[np.uint8]:
        """A colour for each of the 256 values of a mask, [256, 3]; ignored pixels are white."""
        table = np.full((256, 3), 255, np.uint8)
        table[: len(self)] = self.colours
        return table

    def paint(self, mask: Mask) -> npt.NDArray[np.uint8]:
        """Mask [H, W] -> its colours [H, W, 3]."""
        return self.palette[mask]

    def as_png(self, mask: Mask) -> Image.Image:
        """Mask [H, W] as a palette image.

        All 256 colours are set: Pillow stores short palettes with fewer bits, which cuts the ignore index.
        """
        image = Image.fromarray(mask)
        image.putpalette(self.palette.flatten().tolist())
        return image


def write_mask(path: Path, mask: Mask, labels: LabelSet) -> None:
    """Write a mask [H, W] as a palette PNG: any viewer shows the classes' colours."""
    with atomic_write(path) as partial:
        labels.as_png(mask).save(partial, format="PNG")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as RGB, [H, W, 3].

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    try:
        return read_rgb(path)
    except UnreadableImage as error:
        raise UserError(f"{path} is not a readable image ({error}).") from error


def read_mask(
    path: Path,
    labels: LabelSet,
    size: Sequence[int] | None,
    palette: Palette = "auto",
    is_ours: bool = False,
    is_partial: bool = False,
) -> Mask:
    """Read a PNG of class indices or of the label set's colours, [H, W], and check it.

    Args:
        size: height and width of its image; none where they may differ.
        palette: what a palette image means, as `read_indices` explains.
        is_ours: a mask of an annotated folder.
        is_partial: a mask of strokes, which may show one class and ignore all other pixels.

    Raises:
        UserError: the mask is missing, of another size, has indices outside the label set, or has only one
            class.
    """
    if not path.exists():
        raise UserError(f"mask {path} does not exist; draw it, or take its sample away.")
    source = f"mask {path}"
    image = open_mask(read_file(path), source)
    mask = read_indices(image, labels.classes, palette, source, is_ours)
    check_mask(mask, path, labels, size or mask.shape, is_partial)
    return mask


def check_size(shape: Sequence[int], source: object, size: Sequence[int]) -> None:
    """Check height and width of a mask against its image's.

    Raises:
        UserError: they differ.
    """
    if tuple(shape) != tuple(size):
        raise UserError(
            f"mask {source} is {shape[1]}x{shape[0]} pixels but its image is "
            f"{size[1]}x{size[0]}; draw it at the image's size."
        )


def check_mask(
    mask: Mask, source: object, labels: LabelSet, size: Sequence[int], is_partial: bool = False
) -> None:
    """Check a mask [H, W] against its image and the label set.

    Args:
        source: where it comes from, for the error text.
        size: height and width of its image.
        is_partial: whether one class beside pixels that are ignored is enough.

    Raises:
        UserError: it is of another size, has indices outside the label set, or has only one class, beside
            pixels that are ignored or not.
    """
    check_size(mask.shape, source, size)
    found = np.unique(mask)
    unknown = [int(i) for i in found if i >= len(labels) and i != labels.ignore_index]
    if unknown:
        raise UserError(
            f"mask {source} holds index {unknown[0]}, but the label set has {len(labels)} classes "
            f"(and {labels.ignore_index} for ignored pixels)."
        )
    own = [labels.names[i] for i in found if i != labels.ignore_index]
    if own and is_partial:
        return
    if len(own) == 1 and len(found) > 1:
        raise UserError(
            f"mask {source} shows {own[0]} alone, and all other pixels are ignored "
            f"({labels.ignore_index}); draw a second class, or take its sample away."
        )
    if len(own) < 2:
        name = own[0] if own else "ignored"
        raise UserError(f"mask {source} is all {name}; draw its parts, or take its sample away.")


def _names(values: object) -> tuple[str, ...]:
    """A list of names in a label set.

    Raises:
        ValueError: it is none, or YAML takes a name for something else, as it does with `no` and `on`.
    """
    if values is not None and not isinstance(values, list):
        raise ValueError(f"a {type(values).__name__} stands where a list of names belongs")
    for value in values or ():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f"a name is read as {type(value).__name__}; put names in quotes")
    return tuple(str(value) for value in values or ())
