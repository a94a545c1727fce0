"""The drawing page on a phone: narrow, and under fingers."""

import pytest

from datasets.labels import LabelSet
from tests.browser import Page
from tests.teacher.page.desk import SKIN, Desk
from tests.teacher.page.serving import Served

ROW = (SKIN, slice(4, 5), slice(2, 13))


@pytest.fixture(scope="module")
def phone(page: Page, served: Served, labels: LabelSet) -> Desk:
    page.open(served.url)
    page.screen(360, 740, 3, touch=True)
    return Desk(page, served, labels)


def stroke(phone: Desk, *places: tuple[float, float]) -> None:
    first, *others = [phone.place(*place) for place in places]
    phone.page.touch("touchStart", first)
    for place in others:
        phone.page.touch("touchMove", place)
    phone.page.touch("touchEnd")


def test_nothing_is_wider_than_the_screen(phone: Desk) -> None:
    phone.show(0)
    assert phone.page.run("document.documentElement.scrollWidth") == 360
    beyond = phone.page.run(
        "[...document.querySelectorAll('button, input, canvas#canvas, p, h1')].filter((e) =>"
        "!e.closest('#strip') && e.getBoundingClientRect().right > 360).map((e) => e.id)"
    )
    assert beyond == []
    buttons = phone.page.run(
        "[...document.querySelectorAll('.tools button, .class')].map((e) => e.offsetHeight)"
    )
    assert min(buttons) >= 32


def test_one_finger_draws(phone: Desk) -> None:
    phone.show(1)
    stroke(phone, (2.5, 4.5), (7.5, 4.5), (12.5, 4.5))
    phone.becomes(ROW)


def test_a_second_finger_drops_the_stroke_and_zooms(phone: Desk) -> None:
    phone.show(2)
    begin, end, other = phone.place(2.5, 4.5), phone.place(6.5, 4.5), phone.place(10.5, 12.5)
    phone.page.touch("touchStart", begin)
    phone.page.touch("touchMove", end)
    phone.page.touch("touchStart", end, other)
    phone.page.touch("touchMove", end, phone.place(12.5, 16.5))  # further in the same direction
    phone.page.touch("touchEnd", end)
    phone.page.touch("touchMove", begin, first=1)  # the finger that is left does not draw
    phone.page.touch("touchEnd")
    phone.page.wait("!document.getElementById('canvas').classList.contains('fits')")
    phone.page.touch("touchStart", end)  # where it lay it still holds the same place
    phone.page.touch("touchEnd")
    phone.becomes((SKIN, slice(4, 5), slice(6, 7)))
    phone.page.run("document.getElementById('fit').click()")
    phone.page.wait("document.getElementById('canvas').classList.contains('fits')")


def test_what_the_browser_takes_away_is_dropped(phone: Desk) -> None:
    phone.show(3)
    phone.page.touch("touchStart", phone.place(2.5, 9.5))
    phone.page.touch("touchMove", phone.place(6.5, 9.5))
    phone.page.touch("touchCancel")
    stroke(phone, (2.5, 4.5), (12.5, 4.5))
    phone.becomes(ROW)


def test_a_polygon_is_closed_by_a_button(phone: Desk) -> None:
    phone.show(4)
    phone.page.run("document.querySelector('[data-tool=polygon]').click()")
    for corner in ((3, 3), (9, 3), (9, 8), (12, 14)):
        stroke(phone, corner)
    phone.page.run("document.getElementById('take-back').click()")
    stroke(phone, (3, 8))
    phone.page.run("document.getElementById('close').click()")
    phone.becomes((SKIN, slice(3, 8), slice(3, 9)))
