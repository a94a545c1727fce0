"""CVAT's export "Segmentation mask 1.1": labelmap.txt, and a PNG for each image in SegmentationClass."""

from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from common.errors import UserError
from datasets.mask_images import RGB, open_mask, read_colours
from datasets.masks.base import FoundMask, MaskFile, Target

_TABLE = "labelmap.txt"
_WHITE = (255, 255, 255)


def claims(file: MaskFile) -> bool:
    """Whether it is part of such an export: labelmap.txt lies beside it."""
    return _table_beside(file) is not None


def _table_beside(file: MaskFile) -> Traversable | None:
    """The table of the export that the file belongs to: the only one, or that of the same folder."""
    tables = [other for other in file.beside if other.name == _TABLE]
    if len(tables) > 1:
        tables = [t for t in tables if str(file).startswith(str(t).removesuffix(_TABLE))]
        tables.sort(key=lambda table: len(str(table)))
    return tables[-1] if tables else None


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """The mask of a PNG in SegmentationClass; nothing of other files, though labelmap.txt is checked."""
    table = _table_beside(file)
    if table is None:
        return
    inside = PurePosixPath(str(file).removeprefix(str(table).removesuffix(_TABLE)))
    is_mask = "SegmentationClass" in inside.parts and file.ending == ".png"
    if not (is_mask or file.name == _TABLE):
        return
    colours = _read_table(MaskFile(table, file.beside))
    if is_mask:
        name = target.image_of(file.name, file)

        def class_of(colour: RGB) -> int | None:
            if colour in colours:
                return target.class_of(colours[colour], file)
            return target.labels.classes.ignore_index if colour == _WHITE else None

        mask = read_colours(open_mask(file.content, file), class_of, file)
        yield FoundMask(name, str(file), mask)


def _read_table(table: MaskFile) -> dict[RGB, str]:
    """Names of the classes by their RGB, from lines such as `hair:51,221,255::`.

    Raises:
        UserError: a line is not such a one, or two labels have one colour.
    """
    colours: dict[RGB, str] = {}
    for line in table.text.splitlines():
        label, _, rest = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            r, g, b = map(int, rest.split(":")[0].split(","))
        except ValueError as error:
            raise UserError(f"{table} has the line {line!r}, not name:r,g,b::.") from error
        if colours.setdefault((r, g, b), label) != label:
            raise UserError(
                f"{table} gives the colour {r},{g},{b} to both {colours[r, g, b]} and {label}; give each "
                "label its own, and export again."
            )
    return colours
