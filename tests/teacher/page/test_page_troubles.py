"""What the page does when not all goes well: nothing that was drawn is lost, and one sentence says why."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from datasets.labels import LabelSet
from teacher.page.journal import NotSaved
from tests.browser import Page
from tests.conftest import Chain
from tests.teacher.page.desk import SKIN, TEXT, Desk
from tests.teacher.page.serving import Served, serve, until

ROW = (SKIN, slice(4, 5), slice(2, 13))
TROUBLE = TEXT.format("trouble")
QUIET = "document.getElementById('trouble').hidden"


@pytest.fixture
def tabs(page: Page) -> Iterator[Callable[[str], Page]]:
    """Opens an address in a tab of its own, until the test ends."""
    opened = []

    def open_tab(url: str) -> Page:
        tab = page.another()
        tab.open(url)
        tab.screen(1000, 700)
        opened.append(tab)
        return tab

    yield open_tab
    for tab in opened:
        tab.close()


@pytest.fixture
def fresh(tabs: Callable[[str], Page], served: Served, labels: LabelSet) -> Callable[[int], Desk]:
    """Opens a sample in a tab of its own."""

    def open_sample(sample: int) -> Desk:
        desk = Desk(tabs(f"{served.url}#{sample}"), served, labels)
        desk.show(sample)
        return desk

    return open_sample


def draw_row(desk: Desk) -> None:
    desk.drag((2.5, 4.5), (7.5, 4.5), (12.5, 4.5))


def test_a_reload_keeps_all(fresh: Callable[[int], Desk]) -> None:
    desk = fresh(0)
    desk.show(3)
    draw_row(desk)
    desk.becomes(ROW)
    desk.page.reload()
    desk.page.wait(f"{TEXT.format('facts')} === '1 stroke, 4 % drawn'")
    assert desk.text("title") == "Sample 3"
    desk.page.press("Control+z")
    desk.becomes()


def test_another_tab_shows_the_stroke_of_the_first(fresh: Callable[[int], Desk]) -> None:
    first, second = fresh(1), fresh(1)
    first.page.call("Page.bringToFront")
    draw_row(first)
    first.becomes(ROW)
    second.becomes(ROW)
    more = (SKIN, slice(9, 10), slice(2, 3))
    second.page.call("Page.bringToFront")
    second.drag((2.5, 9.5))
    for desk in (first, second):
        desk.becomes(ROW, more)
    first.page.call("Page.bringToFront")
    first.page.press("Control+z")
    second.becomes(ROW)
    first.page.press("Control+z")
    second.becomes()


def test_a_stroke_that_is_refused_is_not_shown(
    fresh: Callable[[int], Desk], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = fresh(2)
    monkeypatch.setattr(served.session, "add", raises(UserError("it is crooked.")))
    draw_row(desk)
    desk.page.wait(
        f"{TEXT.format('status')} === 'The stroke on sample 2 was not taken: It is crooked.'"
    )
    desk.page.wait(f"{TEXT.format('facts')} === '0 strokes, 0 % drawn'")


def test_strokes_that_the_disk_does_not_take_are_sent_again(
    fresh: Callable[[int], Desk], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = fresh(4)
    with monkeypatch.context() as full:
        full.setattr(served.session, "add", raises(NotSaved("the disk is full.")))
        draw_row(desk)
        desk.page.wait(
            f"{TROUBLE} === 'One stroke is not saved yet and will be sent again. The disk is full.'"
        )
        desk.drag((2.5, 9.5))
        desk.page.wait(f"{TROUBLE}.startsWith('2 strokes are not saved yet')")
        desk.page.wait(f"{TEXT.format('facts')} === '0 strokes, 5 % drawn'")
    desk.becomes(ROW, (SKIN, slice(9, 10), slice(2, 3)))
    desk.page.wait(QUIET)


def raises(error: Exception) -> Callable[..., None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    return refuse


def test_what_is_drawn_while_the_server_is_gone_arrives_when_it_is_back(
    tabs: Callable[[str], Page], chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with serve(chain, labels, folder) as served:
        tab = tabs(served.url)
        desk = Desk(tab, served, labels)
        desk.show(5)
    tab.wait(f"{TROUBLE}.startsWith('The server cannot be reached')")
    draw_row(desk)
    tab.wait(f"{TROUBLE}.startsWith('One stroke is not saved yet and will be sent again.')")
    with serve(chain, labels, folder, served.port):
        desk.becomes(ROW)
        tab.wait(QUIET)
        tab.press("Control+z")
        desk.becomes()


def test_what_a_closed_tab_has_not_saved_is_sent_by_the_next(
    tabs: Callable[[str], Page], chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with serve(chain, labels, folder) as served:
        tab = tabs(served.url)
        desk = Desk(tab, served, labels)
        desk.show(6)
    draw_row(desk)
    tab.wait(f"!({QUIET})")
    tab.go("about:blank")
    with serve(chain, labels, folder, served.port) as served:
        tab.go(f"{served.url}#6")
        until(lambda: desk.mask().min() == SKIN)
        tab.wait(f"{TEXT.format('facts')} === '1 stroke, 4 % drawn'")
        assert tab.run("Object.keys(localStorage).length") == 0


def test_a_server_at_another_address_is_told(
    tabs: Callable[[str], Page], chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    with serve(chain, labels, tmp_path / "out") as served:
        tab = tabs(served.url)
        Desk(tab, served, labels).show(0)
    with serve(chain, labels, tmp_path / "out", served.port, "another-token"):
        tab.wait(f"{TROUBLE}.includes('open the one that it printed')")


def test_a_teacher_that_stops_is_told(fresh: Callable[[int], Desk], served: Served) -> None:
    desk = fresh(7)
    served.session._tell({"event": "problem", "text": "The answers have stopped."})
    desk.page.wait(f"{TROUBLE} === 'The answers have stopped.'")
    draw_row(desk)
    desk.becomes(ROW)
    assert not desk.page.run(QUIET)
