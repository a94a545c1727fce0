"""Masks as images: by index or by colour, transparent, grey, saved by editors of all kinds."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from datasets.labels import LabelSet, Mask, read_mask
from datasets.mask_images import Palette, open_mask, read_indices
from datasets.masks import read_masks
from tests.datasets.masks.writers import LABELS, SIZES, make_truth

RGB = tuple[int, int, int]
BLACK, SKIN, HAIR, WHITE = *LABELS.colours, (255, 255, 255)


def with_palette(mask: Mask, colours: list[RGB]) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette([shade for colour in colours for shade in colour])
    return image


def reordered(mask: Mask, order: list[int], colours: list[RGB]) -> Image.Image:
    """As an editor saves it: the same colours, index order[i] for what was i."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(order)] = order
    return with_palette(table[mask], colours)


def read(image: Image.Image, palette: Palette = "auto", labels: LabelSet = LABELS) -> Mask:
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return read_indices(open_mask(stored.getvalue(), "m.png"), labels.classes, palette, "m.png")


def test_colours_in_another_order_are_read_by_colour(tmp_path: Path) -> None:
    truth = make_truth()
    image = reordered(truth, [2, 0, 1], [SKIN, HAIR, BLACK])
    assert np.array_equal(read(image), truth)
    image.save(tmp_path / "0000.png")
    assert np.array_equal(read_masks(tmp_path, LABELS, SIZES)["0000"], truth)
    assert np.array_equal(read_mask(tmp_path / "0000.png", LABELS, None), truth)
    by_index = read_masks(tmp_path, LABELS, SIZES, "index")["0000"]
    assert np.array_equal(by_index, np.array([2, 0, 1], np.uint8)[truth])


def test_ignored_pixels_are_white_in_any_order() -> None:
    truth = make_truth()
    truth[0] = 255
    image = Image.fromarray(LABELS.paint(truth)).quantize(4)
    assert np.array_equal(read(image), truth)


def voc() -> list[RGB]:
    """PASCAL VOC's palette, as its own code makes it."""
    table = []
    for i in range(256):
        r = g = b = 0
        value = i
        for j in range(8):
            r |= (value & 1) << (7 - j)
            g |= (value >> 1 & 1) << (7 - j)
            b |= (value >> 2 & 1) << (7 - j)
            value >>= 3
        table.append((r, g, b))
    return table


@pytest.mark.parametrize(
    "colours",
    [
        voc(), [(i, i, i) for i in range(256)], [(127 * i, 127 * i, 127 * i) for i in range(3)],
        [(int(i * 28.3),) * 3 for i in range(10)],
    ],
    ids=["voc", "grey", "three greys", "ten greys"],
)  # fmt: skip
def test_palettes_that_say_nothing_mean_indices(colours: list[RGB]) -> None:
    truth = make_truth()
    if len(colours) == 256:
        truth[0] = 255
    assert np.array_equal(read(with_palette(truth, colours)), truth)


def test_another_palette_is_refused_until_one_says_what_it_means() -> None:
    truth = make_truth()
    image = with_palette(truth, [(1, 2, 3), (200, 0, 0), (0, 200, 0)])
    with pytest.raises(UserError, match=r"m\.png has a palette .* option palette: index or colour"):
        read(image)
    assert np.array_equal(read(image, "index"), truth)
    with pytest.raises(UserError, match=r"colour \(0, 200, 0\)"):
        read(image, "colour")


def test_what_may_be_both_is_refused() -> None:
    """A label set with VOC's colours, but not in VOC's order."""
    labels = LabelSet(("background", "skin", "hair"), ((0, 0, 0), (0, 128, 0), (128, 0, 0)))
    truth = make_truth()
    image = with_palette(truth, voc())
    with pytest.raises(UserError, match="by index and by its colours, with different classes"):
        read(image, "auto", labels)
    assert np.array_equal(read(image, "index", labels), truth)
    assert np.array_equal(read(image, "colour", labels), np.array([0, 2, 1], np.uint8)[truth])


def test_grey_masks_of_any_kind_mean_indices() -> None:
    truth = make_truth()
    truth[0] = 255
    for array in (truth, np.dstack([truth] * 3), truth.astype(np.uint16)):
        assert np.array_equal(read(Image.fromarray(array)), truth)
    with pytest.raises(UserError, match="the value 300"):
        read(Image.fromarray(truth.astype(np.uint16) + 45))


def test_colours_that_are_grey_were_saved_as_grey() -> None:
    labels = LabelSet(("background", "face", "rest"), ((0, 0, 0), (255, 255, 255), (128, 128, 128)))
    truth = make_truth()
    for mode in ("RGB", "L"):
        image = Image.fromarray(labels.paint(truth)).convert(mode)
        assert np.array_equal(read(image, "auto", labels), truth)


@pytest.mark.parametrize("under", [SKIN, (255, 255, 255), (7, 8, 9)])
def test_what_is_transparent_is_the_first_class(under: RGB) -> None:
    truth = make_truth()
    rgba = np.dstack([LABELS.paint(truth), np.full(truth.shape, 255, np.uint8)])
    rgba[truth == 0] = (*under, 0)
    assert np.array_equal(read(Image.fromarray(rgba)), truth)
    rgba[5, 7, 3] = 100
    with pytest.raises(UserError, match="1 half-transparent pixels, the first at column 7, row 5"):
        read(Image.fromarray(rgba))


def test_transparent_entries_of_a_palette_and_grey_with_alpha(tmp_path: Path) -> None:
    truth = make_truth()
    image = reordered(truth, [1, 0, 2], [SKIN, (9, 9, 9), HAIR])
    image.save(tmp_path / "a.png", transparency=1)
    assert np.array_equal(read_mask(tmp_path / "a.png", LABELS, None), truth)
    grey = np.dstack([np.where(truth == 0, 2, truth), np.where(truth == 0, 0, 255)])
    assert np.array_equal(read(Image.fromarray(grey.astype(np.uint8), "LA")), truth)


def test_a_jpeg_is_no_mask() -> None:
    stored = io.BytesIO()
    Image.fromarray(make_truth()).save(stored, "JPEG")
    with pytest.raises(UserError, match=r"m\.png .*JPEG, which mixes the classes"):
        open_mask(stored.getvalue(), "m.png")


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_and_ignored_pixels_are_no_mask(tmp_path: Path, value: int) -> None:
    mask = np.where(make_truth() > 0, 255, value).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "0000.png")
    for ask in (
        lambda: read_masks(tmp_path, LABELS, SIZES), lambda: read_mask(tmp_path / "0000.png", LABELS, None),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"shows {LABELS.names[value]} alone, and all other"):
            ask()


def test_a_mask_of_an_annotated_folder_keeps_its_indices(tmp_path: Path) -> None:
    """The label set's colours may have changed since it was written."""
    truth = make_truth()
    old = LabelSet(LABELS.names, ((1, 1, 1), (200, 9, 9), (9, 200, 9)))
    old.as_png(truth).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", LABELS, None, is_ours=True), truth)
    with pytest.raises(UserError, match="has a palette"):
        read_mask(tmp_path / "m.png", LABELS, None)
    swapped = LabelSet(LABELS.names, (BLACK, HAIR, SKIN))
    swapped.as_png(truth).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="by index and by its colours"):
        read_mask(tmp_path / "m.png", LABELS, None, is_ours=True)
