"""Masks in the formats that labelling tools write -> masks of class indices.

Read are palette, grey and colour PNG files, LabelMe JSON (polygons and embedded masks), CVAT's
"Segmentation mask 1.1" and COCO JSON (polygons and run lengths); from a folder, a file or a zip file.
Where a format draws shapes, later ones lie over earlier ones, and what no shape covers is the label
set's first class.
"""

import base64
import binascii
import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, UnidentifiedImageError
from pycocotools import mask as coco

from common.errors import UserError
from datasets.image_files import open_root, walk
from datasets.labels import LabelSet, Mask, check_mask

Size = tuple[int, int]  # height and width


def read_masks(path: Path, labels: LabelSet, sizes: Mapping[str, Size]) -> dict[str, Mask]:
    """Read every mask in `path`, whatever its format, and check it.

    Args:
        path: a folder, a zip file, or one file.
        sizes: height and width of every picture, by its file name without ending.

    Returns:
        Masks by the names of their pictures.

    Raises:
        UserError: a mask is damaged, of another size, of no picture, all one class, or shows what
            the label set does not know.
    """
    masks: dict[str, Mask] = {}
    found = _Found(labels, sizes)
    for name, source, mask in found.read(path):
        if name in masks:
            raise UserError(f"{source}: the picture {name} has two masks; take one away.")
        check_mask(mask, source, labels, sizes[name])
        masks[name] = mask
    if not masks:
        raise UserError(
            f"{path} holds no masks; expected are PNG, LabelMe JSON, COCO JSON, or CVAT's "
            "Segmentation mask 1.1."
        )
    return masks


class _Found:
    """Reads masks for given pictures and a label set; yields name, where from, and mask."""

    def __init__(self, labels: LabelSet, sizes: Mapping[str, Size]) -> None:
        self.labels, self.sizes = labels, sizes

    def read(self, path: Path) -> Iterator[tuple[str, str, Mask]]:
        if not path.exists():
            raise UserError(f"{path} does not exist; check --masks.")
        single = path.is_file() and not zipfile.is_zipfile(path)
        files: list[Traversable] = [path] if single else sorted(walk(open_root(path)), key=str)
        maps = [file for file in files if file.name == "labelmap.txt"]
        if maps:
            yield from self._cvat(maps[0], files)
            return
        drawn = [file for file in files if file.name.lower().endswith(".json")]
        for file in drawn:
            yield from self._json(file)
        if drawn:
            return  # pictures beside JSON files are what was labelled, not masks
        for file in files:
            if file.name.lower().endswith(".png"):
                yield self._name(file.name, file), str(file), self._png(file)

    def _name(self, file_name: str, source: Traversable) -> str:
        """The picture that a mask belongs to, by the file name without folder and ending."""
        name = PurePosixPath(file_name.replace("\\", "/")).stem
        if name not in self.sizes:
            some = ", ".join(sorted(self.sizes)[:3])
            raise UserError(f"{source}: there is no picture {name} (there are {some}, ...).")
        return name

    def _class(self, label: str, source: Traversable) -> int:
        if (index := self.labels.index(label)) is None:
            raise UserError(
                f"{source}: the label {label} is not in the label set "
                f"({', '.join(self.labels.names)}); rename it there, or add it to `merges`."
            )
        return index

    def _png(self, file: Traversable, colours: Mapping[tuple[int, ...], str] | None = None) -> Mask:
        """Indices as they are; or colours, those of the label set unless others are given."""
        image = _picture(file.read_bytes(), file)
        if colours is None:
            if image.mode in ("P", "L", "1"):
                return np.array(image, dtype=np.uint8)
            if image.mode not in ("RGB", "RGBA"):
                raise UserError(
                    f"{file} is a picture of mode {image.mode}; a mask holds class indices (palette "
                    "or 8-bit grey) or the label set's colours."
                )
            colours = dict(zip(self.labels.colours, self.labels.names, strict=True))
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
        packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        mask = np.full(packed.shape, self.labels.ignore_index, np.uint8)
        for value in np.unique(packed).tolist():
            colour = (value >> 16, (value >> 8) & 255, value & 255)
            if colour in colours:
                mask[packed == value] = self._class(colours[colour], file)
            elif colour != (255, 255, 255):  # white is ignored, unless a class has it
                y, x = np.argwhere(packed == value)[0].tolist()
                raise UserError(
                    f"{file} has the colour {colour} at column {x}, row {y}, which is no class's; "
                    "save without smoothing, in the label set's colours."
                )
        return mask

    def _cvat(
        self, table: Traversable, files: list[Traversable]
    ) -> Iterator[tuple[str, str, Mask]]:
        """CVAT: names by colour in labelmap.txt, one picture for each in SegmentationClass."""
        colours: dict[tuple[int, ...], str] = {}
        for line in table.read_text().splitlines():
            label, _, rest = line.partition(":")
            if not line.strip() or line.startswith("#"):
                continue
            try:
                r, g, b = map(int, rest.split(":")[0].split(","))
            except ValueError as error:
                raise UserError(f"{table} has the line {line!r}, not name:r,g,b::.") from error
            colours[r, g, b] = label
        for file in files:
            if "SegmentationClass" in str(file) and file.name.lower().endswith(".png"):
                yield self._name(file.name, file), str(file), self._png(file, colours)

    def _json(self, file: Traversable) -> Iterator[tuple[str, str, Mask]]:
        try:
            content = json.loads(file.read_text())
            if "shapes" in content:
                yield self._labelme(content, file)
            elif "annotations" in content and "categories" in content:
                yield from self._coco(content, file)
            else:
                raise UserError(f"{file} is neither LabelMe's (shapes) nor COCO's (annotations).")
        except (KeyError, TypeError, ValueError, IndexError, binascii.Error) as error:
            raise UserError(
                f"{file} is damaged or not as LabelMe or COCO write it "
                f"({type(error).__name__}: {error}); export it again."
            ) from error

    def _labelme(self, content: dict[str, Any], file: Traversable) -> tuple[str, str, Mask]:
        name = self._name(content.get("imagePath") or file.name, file)
        size = (int(content["imageHeight"]), int(content["imageWidth"]))
        mask = np.zeros(size, np.uint8)
        for shape in content["shapes"]:
            index = self._class(str(shape["label"]), file)
            mask[_labelme_area(shape, size, file)] = index
        return name, str(file), mask

    def _coco(self, content: dict[str, Any], file: Traversable) -> Iterator[tuple[str, str, Mask]]:
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        drawn: dict[int, list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            drawn.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            if image["id"] not in drawn:
                continue
            name = self._name(image["file_name"], file)
            height, width = int(image["height"]), int(image["width"])
            mask = np.zeros((height, width), np.uint8)
            for annotation in drawn[image["id"]]:
                area = _coco_area(annotation["segmentation"], height, width)
                mask[area] = self._class(names[annotation["category_id"]], file)
            yield name, f"{file} ({image['file_name']})", mask


def _picture(data: bytes, source: object) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{source} holds no readable picture ({error}).") from error
    return image


def _labelme_area(shape: dict[str, Any], size: Size, source: Traversable) -> npt.NDArray[np.bool_]:
    """Pixels that a LabelMe shape covers, bool [H, W]."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "mask":  # a picture of the box between two corners
        part = np.asarray(_picture(base64.b64decode(shape["mask"], validate=True), source)) > 0
        left, top = round(points[0][0]), round(points[0][1])
        whole = np.zeros(size, np.bool_)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part[
            : max(size[0] - top, 0), : max(size[1] - left, 0)
        ]
        return whole
    canvas = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon" and len(points) > 2:
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), (ex, ey) = points
        radius = ((x - ex) ** 2 + (y - ey) ** 2) ** 0.5
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    else:
        raise UserError(
            f"{source} has a {kind} of {len(points)} points labelled {shape['label']}, which covers "
            "no area; draw polygons, rectangles, circles or masks."
        )
    return np.asarray(canvas)


def _coco_area(segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Pixels of a COCO segmentation: polygons, or run lengths, compressed or not."""
    if isinstance(segmentation, list):
        codes = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        codes = coco.frPyObjects(segmentation, height, width)
    else:
        codes = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its arrays speak numpy 1
        area = coco.decode(codes).astype(np.bool_)
    if area.shape != (height, width):
        raise ValueError(f"a segmentation of size {area.shape} on a picture of {(height, width)}")
    return np.asarray(area)
