"""COCO's JSON: polygons and run lengths, compressed or not, of many images."""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from common.errors import UserError
from datasets.masks.base import FoundMask, MaskFile, Size, Target, naming_damage
from datasets.masks.shapes import Area, Shapes, check_points

_REMEDY = "draw its outline, or delete it"


def claims(file: MaskFile) -> bool:
    """Whether it is a JSON object with `annotations` and `categories`."""
    return file.json is not None and "annotations" in file.json and "categories" in file.json


def read(file: MaskFile, target: Target) -> Iterator[FoundMask]:
    """A mask for every image that has annotations: later ones lie over earlier ones."""
    content = file.json or {}
    names = _by_id(content["categories"], "name", file)
    files = _by_id(content["images"], "file_name", file)
    sizes = {_id(i["id"]): (int(i["height"]), int(i["width"])) for i in content["images"]}
    by_image: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for number, annotation in enumerate(content["annotations"], 1):
        what = f"{file}: annotation {annotation.get('id', f'number {number}')}"
        with naming_damage(what, "COCO JSON"):
            image, category = _id(annotation["image_id"]), _id(annotation["category_id"])
        for found, known, key in ((image, files, "image"), (category, names, "category")):
            if found not in known:
                raise UserError(
                    f"{what} is of {key} {found}, which is not in the file; add it, or delete the "
                    "annotation."
                )
        by_image[image].append((what, annotation))
    _refuse_equal_names(files, {*by_image}, file)
    for image, file_name in files.items():
        if image not in by_image:
            continue
        name, source = target.image_of(file_name, file), f"{file} ({file_name})"
        target.check_size(name, sizes[image], source)
        shapes = Shapes(sizes[image])
        for what, annotation in by_image[image]:
            label = names[_id(annotation["category_id"])]
            what = f"{what} ({label}) of image {file_name}"
            with naming_damage(what, "COCO JSON"):
                area = _area(annotation.get("segmentation"), shapes, what)
            shapes.paint(area, target.class_of(label, file), what)
        yield shapes.finish(name, source)


def _id(value: object) -> str:
    """An id as text: some tools write 1, some "1"."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is no id")
    return str(value).strip()


def _by_id(entries: list[dict[str, Any]], key: str, file: MaskFile) -> dict[str, str]:
    """What entries are named, by their ids.

    Raises:
        UserError: two have one id.
    """
    found: dict[str, str] = {}
    for entry in entries:
        number, name = _id(entry["id"]), entry[key]
        if not isinstance(name, str):
            raise TypeError(f"{key} is {name!r}")
        if found.setdefault(number, name) != name:
            raise UserError(
                f"{file} gives the id {number} to both {found[number]} and {name}; export it again with "
                "an id for each."
            )
    return found


def _refuse_equal_names(files: dict[str, str], annotated: set[str], file: MaskFile) -> None:
    """Names say which image a mask is of, so that no two entries may mean one.

    Raises:
        UserError: they do.
    """
    seen: dict[str, str] = {}
    for number, name in files.items():
        stem = Target.stem(name)
        other = seen.setdefault(stem, number)
        if other != number and {other, number} & annotated:
            raise UserError(
                f"{file} has two images named {stem} ({files[other]}, id {other}, and {name}, id "
                f"{number}); keep one of them."
            )


def _area(segmentation: Any, shapes: Shapes, what: str) -> Area:
    """Pixels of a segmentation, bool [H, W].

    Raises:
        UserError: it covers nothing or is none.
    """
    height, width = shapes.size
    if not segmentation:
        raise UserError(f"{what} has no outline (its `segmentation` is empty); {_REMEDY}.")
    if isinstance(segmentation, dict):
        return _from_run_lengths(segmentation, shapes.size, what)
    rings = _rings(segmentation, what)
    areas: Any = [ring for ring in rings if len(ring) >= 6]
    if not areas:
        raise UserError(
            f"{what} has an outline of fewer than three points, which covers nothing; {_REMEDY}."
        )
    if few := len(rings) - len(areas):
        shapes.remarks.append(
            f"{what} has rings of fewer than three points, which cover nothing ({few})"
        )
    for ring in areas:
        check_points(ring, shapes.size, what)
    codes = run_lengths.merge(run_lengths.frPyObjects(areas, height, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools builds arrays as numpy 1 did
        return np.asarray(run_lengths.decode(codes).astype(np.bool_))


def _rings(segmentation: Any, what: str) -> list[list[float]]:
    """Polygons, each x, y, x, y, ...; a single one, and points as pairs, are understood.

    Raises:
        UserError: a ring is none.
    """
    if not isinstance(segmentation, list):
        raise UserError(f"{what} has a `segmentation` that is no polygon; {_REMEDY}.")
    one_flat = all(map(_is_number, segmentation))
    one_of_pairs = len(segmentation) > 2 and all(map(_is_pair, segmentation))
    rings = []
    for ring in [segmentation] if one_flat or one_of_pairs else segmentation:
        if isinstance(ring, list) and ring and all(map(_is_pair, ring)):
            ring = [number for pair in ring for number in pair]
        if not isinstance(ring, list) or not all(map(_is_number, ring)):
            raise UserError(f"{what} has a `segmentation` that is no polygon; {_REMEDY}.")
        if len(ring) % 2:
            raise UserError(
                f"{what} has an outline of {len(ring)} numbers, not x and y for each point; {_REMEDY}."
            )
        rings.append([float(number) for number in ring])
    return rings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _from_run_lengths(code: dict[str, Any], size: Size, what: str) -> Area:
    """Pixels of run lengths, bool [H, W]: background and area in turns, down each column.

    Raises:
        UserError: they are of another size than the image.
    """
    counts = code["counts"]
    runs = counts if isinstance(counts, list) else _unpack(counts)
    if any(isinstance(run, bool) or not isinstance(run, int) or run < 0 for run in runs):
        raise ValueError("a run length is no count")
    height, width = size
    if [*map(int, code["size"])] != [height, width] or sum(runs) != height * width:
        raise UserError(
            f"{what} has run lengths of {sum(runs)} pixels and size {code['size']}, but the image is "
            f"{width}x{height}; export it again."
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _unpack(text: str) -> list[int]:
    """COCO's compressed run lengths: five bits a character, from the third on as differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("these are no run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of this number
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the run lengths are cut off")
    return runs
