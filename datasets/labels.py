"""Label sets, and masks as palette PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image, UnidentifiedImageError

from datasets.artifacts import UserError, atomic_write

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of the classes; a mask holds their indices, or `ignore_index`."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255

    @staticmethod
    def load(path: Path) -> "LabelSet":
        """Read a YAML file with `names`, `colours` and `ignore_index`."""
        try:
            values = yaml.safe_load(path.read_text())
            names = tuple(str(name) for name in values["names"])
            colours = tuple((int(r), int(g), int(b)) for r, g, b in values["colours"])
            ignore = int(values.get("ignore_index", 255))
        except OSError as error:
            raise UserError(f"label set {path} cannot be read ({error.strerror}).") from error
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"label set {path} needs `names` and one [r, g, b] in `colours` for each ({error})."
            ) from error
        if len(names) != len(colours):
            raise UserError(f"label set {path} has {len(names)} names but {len(colours)} colours.")
        if ignore < len(names):
            raise UserError(
                f"label set {path}: ignore_index {ignore} is also the index of a class."
            )
        return LabelSet(names, colours, ignore)

    def __len__(self) -> int:
        return len(self.names)

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
        """Mask [H, W] as a palette picture.

        The palette is whole: Pillow stores short ones with fewer bits and would cut the ignore index.
        """
        image = Image.fromarray(mask)
        image.putpalette(self.palette.flatten().tolist())
        return image


def write_mask(path: Path, mask: Mask, labels: LabelSet) -> None:
    """Write a mask [H, W] as a palette PNG: any viewer shows the classes' colours."""
    with atomic_write(path) as partial:
        labels.as_png(mask).save(partial, format="PNG")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture as RGB, [H, W, 3]."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist.") from error
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not a readable picture ({error}).") from error


def read_mask(path: Path, labels: LabelSet, size: Sequence[int]) -> Mask:
    """Read a palette or grey PNG of class indices, [H, W], and check it.

    Args:
        size: the height and width that its picture has.

    Raises:
        UserError: the mask is missing, of another size, has indices outside the label set, or shows
            one class alone.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"{path} is a {image.mode} picture; a mask is a palette or grey PNG of class "
                    "indices."
                )
            mask = np.array(image, dtype=np.uint8)
    except FileNotFoundError as error:
        raise UserError(f"mask {path} does not exist; draw it, or take its sample away.") from error
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"mask {path} is not a readable picture ({error}).") from error
    if mask.shape != tuple(size):
        raise UserError(
            f"mask {path} is {mask.shape[1]}x{mask.shape[0]} pixels but its picture is "
            f"{size[1]}x{size[0]}; draw it at the picture's size."
        )
    found = np.unique(mask)
    unknown = [int(i) for i in found if i >= len(labels) and i != labels.ignore_index]
    if unknown:
        raise UserError(
            f"mask {path} holds index {unknown[0]}, but the label set has {len(labels)} classes "
            f"(and {labels.ignore_index} for ignored pixels)."
        )
    if len(found) == 1:
        name = labels.names[found[0]] if found[0] < len(labels) else "ignored"
        raise UserError(f"mask {path} is all {name}; draw its parts, or take its sample away.")
    return mask
