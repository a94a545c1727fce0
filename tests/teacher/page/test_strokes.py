"""Strokes and the pixels that they cover."""

from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from teacher.page.strokes import NOTHING, cover_area, cover_line, read_stroke

SIDE = 16


def line(*points: tuple[float, float], size: float = 1.0, label: int = 2) -> dict[str, Any]:
    return {"kind": "line", "class": label, "size": size, "points": [list(p) for p in points]}


def fresh() -> np.ndarray[Any, Any]:
    return np.full((SIDE, SIDE), NOTHING, np.uint8)


def test_a_thin_line_has_no_gaps_whatever_its_slope() -> None:
    for angle in np.linspace(0, 2 * np.pi, 37):
        start, way = np.array([8.0, 8.0]), 6 * np.array([np.cos(angle), np.sin(angle)])
        covered = cover_line(np.stack([start, start + way]), 1.0, SIDE)
        y, x = np.nonzero(covered)
        assert max(np.ptp(x), np.ptp(y)) >= 4
        # One connected piece: each pixel has another one beside it, also across a corner.
        for px, py in zip(x, y, strict=True):
            beside = (np.abs(x - px) <= 1) & (np.abs(y - py) <= 1)
            assert beside.sum() > 1


def test_a_brush_is_a_disc_and_a_tap_covers_a_pixel() -> None:
    disc = cover_line(np.array([[8.0, 8.0]]), 6.0, SIDE)
    centres = np.arange(SIDE) + 0.5
    expected = (centres - 8) ** 2 + (centres[:, None] - 8) ** 2 <= 9
    assert (disc == expected).all()
    corner = cover_line(np.array([[3.0, 5.0]]), 0.5, SIDE)  # on a corner of four pixels
    assert corner.sum() == 1 and corner[5, 3]


def test_an_outline_holds_the_pixels_whose_centre_is_inside() -> None:
    square = cover_area(np.array([[2.0, 3.0], [7.0, 3.0], [7.0, 9.0], [2.0, 9.0]]), SIDE)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[3:9, 2:7] = True
    assert (square == expected).all()
    twice_round = np.array([[2.0, 3.0], [7.0, 3.0], [7.0, 9.0], [2.0, 9.0]] * 2)
    assert not cover_area(twice_round, SIDE).any()  # even-odd
    outside = cover_area(np.array([[-9.0, -9.0], [30.0, -9.0], [30.0, 30.0], [-9.0, 30.0]]), SIDE)
    assert outside.all()


def test_later_strokes_cover_earlier_ones_and_agreement_covers_none() -> None:
    mask = fresh()
    for values in (
        line((2, 2), (12, 2), size=3),
        line((5, 2), (8, 2), size=3, label=NOTHING),
        {"kind": "agreed", "runs": [[4, 0, SIDE * SIDE]]},
        {"kind": "area", "class": 1, "points": [[0, 10], [16, 10], [16, 16], [0, 16]]},
    ):
        read_stroke(values, SIDE, 8).put_on(mask)
    assert mask[2, 2] == 2 and mask[2, 6] == 4 and mask[8, 8] == 4 and (mask[10:] == 1).all()


@pytest.mark.parametrize(
    "values",
    [line((1.25, 2), (3, 4.5), size=2.5), {"kind": "agreed", "runs": [[1, 0, 3], [0, 3, 9]]}],
)
def test_a_stroke_is_the_same_after_it_was_written(values: dict[str, Any]) -> None:
    again = read_stroke(read_stroke(values, SIDE, 8).as_json(), SIDE, 8)
    first, second = fresh(), fresh()
    read_stroke(values, SIDE, 8).put_on(first)
    again.put_on(second)
    assert (first == second).all() and (first != NOTHING).any()


@pytest.mark.parametrize(
    "values",
    [
        None, [], {}, {"kind": "circle"}, line(), line((1, 1), label=8), line((1, 1), label=-1),
        line((1, 1), size=0), line((1, 1), size=17), line((1, 1), size=float("nan")),
        line((1, 1), size=True), line((float("inf"), 1)), line((1e300, 1)), line((1, 1), label=True),
        line((1, 1)) | {"points": [[1, 2, 3]]}, line((1, 1)) | {"points": [["x", 1]]},
        line((1, 1)) | {"points": [[1, 1]] * 20_001}, line((1, 1)) | {"points": {"a": 1}},
        {"kind": "area", "class": 1, "points": [[1, 1], [2, 2]]},
        {"kind": "agreed", "runs": []}, {"kind": "agreed", "runs": [[8, 0, 1]]},
        {"kind": "agreed", "runs": [[1, 0, 257]]}, {"kind": "agreed", "runs": [[1, 5, 3], [1, 7, 2]]},
        {"kind": "agreed", "runs": [[1, 0, 0]]}, {"kind": "agreed", "runs": [[1, -1, 2]]},
        {"kind": "agreed", "runs": [[1.5, 0, 2]]}, {"kind": "agreed", "runs": [[10**30, 0, 2]]},
        {"kind": "agreed", "runs": "abc"}, {"kind": "agreed", "runs": [[1, 0]]},
    ],
)  # fmt: skip
def test_what_is_no_stroke_is_refused_in_a_sentence(values: object) -> None:
    with pytest.raises(UserError) as refused:
        read_stroke(values, SIDE, 8)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)
