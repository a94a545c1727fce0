"""Masks in the formats that labelling tools write -> masks of class indices.

A format is a file of this package with two functions: `claims(file)` says whether a file is of this
format, `read(file, target)` gives its masks. To add one, write such a file and name it in `MASK_FORMATS`.
Masks are read from a folder, a zip file or a single file. Where a format has shapes, later ones lie over
earlier ones, and what no shape covers is the label set's first class.
"""

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from common.errors import UserError, printable
from datasets.image_files import looks_zipped, open_root, walk
from datasets.labels import LabelSet, Mask, check_mask
from datasets.mask_images import Palette
from datasets.masks import coco, cvat, labelme, png
from datasets.masks.base import MaskFile, MaskFormat, Size, Target, naming_damage

__all__ = ["MASK_FORMATS", "read_masks"]

_IMAGES = "PNG"
MASK_FORMATS: dict[str, MaskFormat] = {  # a file belongs to the first format that claims it
    "CVAT's Segmentation mask 1.1": cvat,
    "LabelMe JSON": labelme,
    "COCO JSON": coco,
    _IMAGES: png,
}


def read_masks(
    path: Path, labels: LabelSet, sizes: Mapping[str, Size], palette: Palette = "auto"
) -> dict[str, Mask]:
    """Read every mask in `path`, whatever its format, and check it; print what a person should know.

    Args:
        path: a folder, a zip file, or one file.
        labels: the classes of the masks.
        sizes: height and width of every image, by its file name without ending.
        palette: what palette images mean, as `read_indices` explains.

    Returns:
        Masks by the names of their images.

    Raises:
        UserError: a mask is damaged, of another size than its image, of no image, all one class, or has a
            class that the label set does not have.
    """
    masks: dict[str, Mask] = {}
    target = Target(labels, sizes, palette)
    for file, name in _claimed(path):
        with naming_damage(file, name):
            for found in MASK_FORMATS[name].read(file, target):
                if found.image in masks:
                    raise UserError(
                        f"{found.source}: the image {found.image} has two masks; take one away."
                    )
                check_mask(found.mask, found.source, labels, sizes[found.image])
                masks[found.image] = found.mask
                for remark in found.remarks:
                    print(printable(f"warning: {remark}"))
    if not masks:
        raise UserError(f"{path} holds no masks; expected are {', '.join(MASK_FORMATS)}.")
    return masks


def _claimed(path: Path) -> list[tuple[MaskFile, str]]:
    """The files that hold masks, in order, each with the name of its format.

    Raises:
        UserError: the path does not exist, or no format claims a JSON file.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; check --masks.")
    single = path.is_file() and not looks_zipped(path)
    found: list[Traversable] = [path] if single else sorted(walk(open_root(path)), key=str)
    claimed = []
    for file in (MaskFile(place, found) for place in found):
        name = next((name for name, kind in MASK_FORMATS.items() if kind.claims(file)), None)
        if name is not None:
            claimed.append((file, name))
        elif file.ending == ".json":
            raise UserError(f"{file} is neither LabelMe's (shapes) nor COCO's (annotations).")
    others = [(file, name) for file, name in claimed if name != _IMAGES]
    return others or claimed  # images beside files of another format are what was labelled
