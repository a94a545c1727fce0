"""The drawing page in a real Chromium: what a hand does there, as pixels on the disk."""

import json
import time
from typing import Any

import numpy as np

from datasets.labels import Mask
from teacher.page.strokes import NOTHING, cover_area, cover_line
from tests.conftest import SIZE
from tests.teacher.page.desk import HAIR, SKIN, TEXT, Desk
from tests.teacher.page.serving import until

# ---- drawing


def test_a_brush_draws_exactly_the_pixels_under_it(desk: Desk) -> None:
    desk.show(0)
    desk.drag((2.5, 4.5), (7.5, 4.5), (12.5, 4.5))
    desk.becomes((SKIN, slice(4, 5), slice(2, 13)))
    desk.page.press("3", "]")  # two pixels wide
    desk.drag((3, 10), (8, 10))
    row = (SKIN, slice(4, 5), slice(2, 13))
    desk.becomes(row, (HAIR, slice(9, 11), slice(2, 9)))
    desk.page.wait(f"{TEXT.format('facts')} === '2 strokes, 10 % drawn'")


def test_the_eraser_and_the_right_button_take_away(desk: Desk) -> None:
    desk.show(1)
    desk.drag((0.5, 2.5), (15.5, 2.5))
    desk.drag((4.5, 2.5), (6.5, 2.5), button="right")
    desk.page.press("e")
    desk.drag((10.5, 2.5), (11.5, 2.5))
    row, gap = slice(2, 3), NOTHING
    desk.becomes((SKIN, row, slice(0, 16)), (gap, row, slice(4, 7)), (gap, row, slice(10, 12)))


def test_a_lasso_holds_what_is_inside(desk: Desk) -> None:
    desk.show(2)
    desk.page.press("l", "3")
    desk.drag((3, 3), (9, 3), (9, 8), (3, 8))
    desk.becomes((HAIR, slice(3, 8), slice(3, 9)))
    desk.drag((3, 3), (6, 3), (6, 8), (3, 8), button="right")
    desk.becomes((HAIR, slice(3, 8), slice(6, 9)))


def test_a_polygon_is_closed_by_enter_a_double_click_or_its_first_corner(desk: Desk) -> None:
    desk.show(3)
    desk.page.press("g")
    first = (SKIN, slice(1, 5), slice(1, 5))
    for corner in ((1, 1), (5, 1), (9, 9)):
        desk.click(*corner)
    desk.page.press("Backspace")
    for corner in ((5, 5), (1, 5)):
        desk.click(*corner)
    desk.page.press("Enter")
    desk.becomes(first)
    for corner in ((7, 1), (11, 1), (11, 5), (7, 5), (7, 5)):  # twice
        desk.click(*corner)
    second = (SKIN, slice(1, 5), slice(7, 11))
    desk.becomes(first, second)
    for corner in ((1, 7), (5, 7), (5, 11), (1, 11), (1, 7)):
        desk.click(*corner)
    desk.becomes(first, second, (SKIN, slice(7, 11), slice(1, 5)))
    desk.click(8, 8)
    assert not desk.page.run("document.getElementById('polygon').hidden")
    desk.page.press("Escape")
    assert desk.page.run("document.getElementById('polygon').hidden")


def test_undo_and_redo_go_all_the_way(desk: Desk) -> None:
    desk.show(4)
    rows = [(SKIN, slice(y, y + 1), slice(2, 6)) for y in (1, 3, 5)]
    for _, row, _ in rows:
        desk.drag((2.5, row.start + 0.5), (5.5, row.start + 0.5))
    desk.becomes(*rows)
    for left in (2, 1, 0):
        desk.page.press("Control+z")
        desk.becomes(*rows[:left])
    desk.page.wait("document.getElementById('undo').disabled")
    desk.page.press("Control+y", "Control+Shift+Z")
    desk.becomes(*rows[:2])
    desk.page.run("document.getElementById('redo').click()")
    desk.becomes(*rows)
    desk.page.run("document.getElementById('undo').click()")
    desk.drag((10.5, 9.5))
    desk.becomes(*rows[:2], (SKIN, slice(9, 10), slice(10, 11)))
    desk.page.wait("document.getElementById('redo').disabled")


def test_many_strokes_in_a_row_are_saved_one_after_another(desk: Desk) -> None:
    desk.show(5)
    for y in range(SIZE):
        desk.drag((0.5, y + 0.5), (15.5, y + 0.5))
        if y % 3 == 2:
            desk.page.press("Control+z")
    kept = [y for y in range(SIZE) if y % 3 != 2]
    desk.becomes(*((SKIN, slice(y, y + 1), slice(0, 16)) for y in kept))


# ---- with the teacher


def test_fill_takes_a_region_of_the_answer_and_accept_all_of_it(desk: Desk) -> None:
    desk.show(6)
    desk.drag((2.5, 2.5), (13.5, 2.5))
    desk.page.press("3", "]")
    desk.drag((3, 12), (13, 12))
    until(lambda: (desk.mask() == HAIR).any())
    answer, drawn = desk.settle()
    desk.page.press("f")
    y, x = np.argwhere(drawn == NOTHING)[0]
    desk.click(x + 0.5, y + 0.5)
    until(lambda: not np.array_equal(desk.mask(), drawn))
    filled = desk.mask()
    region = connected(answer, y, x) & (drawn == NOTHING)
    assert (filled[region] == answer[y, x]).all() and (filled[~region] == drawn[~region]).all()

    answer, drawn = desk.settle()
    desk.page.press("a")
    until(lambda: (desk.mask() != NOTHING).all())
    assert np.array_equal(desk.mask(), np.where(drawn == NOTHING, answer, drawn))
    until(lambda: desk.text("facts") == "accepted")
    desk.page.press("Control+z")
    until(lambda: np.array_equal(desk.mask(), drawn))


def connected(labels: Mask, y: int, x: int) -> Any:
    """Pixels of one class around a pixel."""
    found = np.zeros(labels.shape, bool)
    found[y, x] = True
    while True:
        grown = found.copy()
        grown[1:] |= found[:-1]
        grown[:-1] |= found[1:]
        grown[:, 1:] |= found[:, :-1]
        grown[:, :-1] |= found[:, 1:]
        grown &= labels == labels[y, x]
        if np.array_equal(grown, found):
            return found
        found = grown


def test_next_leads_to_the_sample_that_the_session_names(desk: Desk) -> None:
    desk.show(7)
    desk.drag((2.5, 2.5), (13.5, 2.5))
    desk.settle()
    desk.page.press("n")
    desk.page.wait(f"{TEXT.format('title')} !== 'Sample 7'")
    sample = int(desk.text("title").removeprefix("Sample "))
    until(lambda: desk.text("status").startswith(f"Sample {sample}: "))
    assert desk.served.session._recent[-1] == 7
    desk.page.press("p")
    desk.page.wait(f"{TEXT.format('title')} === 'Sample 7'")
    desk.page.press("ArrowRight")
    desk.page.wait(f"{TEXT.format('title')} === 'Sample 8'")
    desk.page.press("ArrowLeft")
    desk.page.wait(f"{TEXT.format('title')} === 'Sample 7'")
    desk.page.run("document.querySelector('[data-sample=\"9\"]').click()")
    desk.page.wait(f"{TEXT.format('title')} === 'Sample 9'")


# ---- looking


def test_strokes_are_where_they_are_seen_at_any_zoom(desk: Desk) -> None:
    desk.show(8)
    x, y = desk.place(4.5, 4.5)
    for _ in range(3):
        desk.page.mouse("mouseWheel", (x, y), deltaX=0, deltaY=-240)
    desk.page.drag((x, y))  # what was under the pointer is under it still
    desk.becomes((SKIN, slice(4, 5), slice(4, 5)))
    step = desk.place(1, 0)[0] - desk.place(0, 0)[0]
    key = {"key": " ", "windowsVirtualKeyCode": 32}
    desk.page.call("Input.dispatchKeyEvent", type="keyDown", **key)
    desk.page.drag((x, y), (x + step, y + step))  # moves
    desk.page.call("Input.dispatchKeyEvent", type="keyUp", **key)
    desk.page.drag((x + step, y + step))
    desk.page.drag((x, y), (x - step, y), button="middle")
    desk.page.drag((x, y + step))
    desk.page.press("0")
    desk.drag((10.5, 10.5))
    desk.becomes((SKIN, slice(4, 5), slice(4, 5)), (SKIN, slice(10, 11), slice(10, 11)))


def test_the_canvas_has_a_pixel_for_each_of_the_screen(desk: Desk) -> None:
    ratio = (
        "(() => { const c = document.getElementById('canvas'); return c.width / c.clientWidth; })()"
    )
    for density in (2, 3, 1):
        desk.page.screen(1000, 700, density)
        desk.page.mouse("mouseMoved", desk.place(density, 1))
        until(lambda density=density: abs(desk.page.run(ratio) - density) < 0.01)


def test_overlays_are_hidden_while_a_key_is_held_and_classes_are_named(desk: Desk) -> None:
    desk.show(9)
    hidden = "document.getElementById('hidden').checked"
    desk.page.press("h")
    image = painted(desk)
    desk.page.press("h")
    assert not desk.page.run(hidden)
    desk.drag((2.5, 2.5), (13.5, 2.5))
    desk.becomes((SKIN, slice(2, 3), slice(2, 14)))
    assert painted(desk) != image
    key = {"key": "h", "windowsVirtualKeyCode": 72}
    desk.page.call("Input.dispatchKeyEvent", type="keyDown", **key)
    until(lambda: painted(desk) == image, 20)
    time.sleep(0.4)
    desk.page.call("Input.dispatchKeyEvent", type="keyUp", **key)
    assert painted(desk) != image and not desk.page.run(hidden)
    label = "document.getElementById('canvas').getAttribute('aria-label')"
    desk.page.wait(f"{label}.startsWith('Sample 9. Drawn: skin 12 pixels.')")
    desk.page.press("?")
    assert desk.page.run("document.getElementById('keys').open")
    desk.page.press("3", "n")  # the help has the keys now
    desk.page.press("Escape")
    chosen = "document.querySelector('.class[aria-pressed=true] .name').textContent"
    assert desk.page.run(chosen) == "skin" and desk.text("title") == "Sample 9"


def painted(desk: Desk) -> str:
    """What the canvas shows, with no pointer on it."""
    desk.page.mouse("mouseMoved", (5, 5))
    return desk.page.run(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>"
        "done(document.getElementById('canvas').toDataURL()))))"
    )


# ---- the same pixels on both sides


def test_the_page_covers_the_pixels_that_the_server_covers(desk: Desk) -> None:
    """Of random strokes, also on borders and corners of pixels."""
    random, strokes, expected = np.random.default_rng(0), [], []
    for i in range(300):
        side = int(random.choice([1, 5, 16, 33, 64]))
        points = random.uniform(-0.3 * side, 1.3 * side, (int(random.integers(1, 9)), 2))
        points = (points * 2).round() / 2 if i % 3 == 0 else points.round(2)
        size = float(random.choice([0.5, 1, 2, 3.7, side / 2, side]))
        is_line = len(points) < 3 or i % 2
        strokes.append([bool(is_line), points.tolist(), size, side])
        covered = cover_line(points, size, side) if is_line else cover_area(points, side)
        expected.append("".join(map(str, covered.astype(int).flatten())))
    found = desk.page.run(
        "import(new URL('raster.js', location.href)).then(({ coverLine, coverArea }) =>"
        f"{json.dumps(strokes)}.map(([isLine, points, size, side]) =>"
        "(isLine ? coverLine(points, size, side) : coverArea(points, side)).join('')))"
    )
    assert found == expected and any("1" in text for text in expected)


# ---- nothing else


def test_nothing_was_asked_from_elsewhere_and_nothing_complained(desk: Desk) -> None:
    """Of all that the tests above did."""
    asked = [e["params"] for e in desk.page.events if e["method"] == "Network.requestWillBeSent"]
    assert asked and all(a["request"]["url"].startswith(desk.served.url) for a in asked)
    kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in desk.page.events if event["method"] in kinds] == []
    desk.page.run("fetch('http://127.0.0.1:1/').catch(() => 0)")  # the browser would not let it
    assert "Content Security Policy" in str(desk.page.events)
