"""CVAT's export "Segmentation mask 1.1": labelmap.txt, and a PNG for each image in SegmentationClass."""

from collections.abc import Iterator
from importlib.resources.abc import Traversable

from common.errors import UserError
from datasets.masks.base import RGB, FoundMask, MaskFile, Target, open_png, read_colours

_TABLE = "labelmap.txt"


def claims(file: MaskFile) -> bool:
    """Whether it is part of such an export: labelmap.txt lies beside it."""
    return _table_beside(file) is not None


def _table_beside(file: MaskFile) -> Traversable | None:
    return next((other for other in file.beside if other.name == _TABLE), None)


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """The mask of a PNG in SegmentationClass; nothing of other files, though labelmap.txt is checked."""
    table = _table_beside(file)
    is_mask = "SegmentationClass" in str(file) and file.ending == ".png"
    if table is None or not (is_mask or file.name == _TABLE):
        return
    colours = _read_table(MaskFile(table, file.beside))
    if is_mask:
        name = target.image_of(file.name, file)
        image = open_png(file.content, file)
        yield FoundMask(name, str(file), read_colours(image, colours, target, file))


def _read_table(table: MaskFile) -> dict[RGB, str]:
    """Names of the classes by their RGB, from lines such as `hair:51,221,255::`."""
    colours: dict[RGB, str] = {}
    for line in table.content.decode().splitlines():
        label, _, rest = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            r, g, b = map(int, rest.split(":")[0].split(","))
        except ValueError as error:
            raise UserError(f"{table} has the line {line!r}, not name:r,g,b::.") from error
        colours[r, g, b] = label
    return colours
