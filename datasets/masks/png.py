"""PNG files of class indices (palette or grey) or of the label set's colours."""

from collections.abc import Iterator

import numpy as np

from common.errors import UserError
from datasets.masks.base import FoundMask, MaskFile, Target, open_png, read_colours


def claims(file: MaskFile) -> bool:
    """Whether it is a PNG file."""
    return file.ending == ".png"


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """Its mask; the image has the same name."""
    name = target.image_of(file.name, file)
    image = open_png(file.content, file)
    if image.mode in ("P", "L", "1"):
        mask = np.array(image, dtype=np.uint8)
    elif image.mode in ("RGB", "RGBA"):
        colours = dict(zip(target.labels.colours, target.labels.names, strict=True))
        mask = read_colours(image, colours, target, file)
    else:
        raise UserError(
            f"{file} is an image of mode {image.mode}; a mask holds class indices (palette or 8-bit grey) "
            "or the label set's colours."
        )
    yield FoundMask(name, str(file), mask)
