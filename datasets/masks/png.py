"""PNG files of class indices (palette or grey) or of the label set's colours."""

from collections.abc import Iterator

from datasets.mask_images import open_mask, read_indices
from datasets.masks.base import FoundMask, MaskFile, Target


def claims(file: MaskFile) -> bool:
    """Whether it is a PNG file."""
    return file.ending == ".png"


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """Its mask; the image has the same name."""
    name = target.image_of(file.name, file)
    image = open_mask(file.content, file)
    mask = read_indices(image, target.labels.classes, target.palette, file)
    yield FoundMask(name, str(file), mask)
