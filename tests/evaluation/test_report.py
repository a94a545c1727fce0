"""The report of a real run, as a person gets it."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from common.files import read_json


@pytest.fixture(scope="module")
def page(finished) -> str:
    return (finished / "compare/report.html").read_text(encoding="utf-8")


def test_it_loads_nothing(page):
    loaded = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert loaded and all(address.startswith(("data:", "#")) for address in loaded)
    assert "<script" not in page


def test_every_element_is_closed(page):
    """Browsers forgive; what is not closed swallows what follows."""
    alone, opened = {"meta", "img", "br", "link"}, list[str]()

    class Walk(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in alone:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag, self.getpos()

    Walk().feed(page)
    assert opened == []


def test_its_tables_hold_the_figures(page, finished):
    result = read_json(finished / "compare/comparison.json")
    for name, test in result["test_sets"].items():
        assert f"<h2>{name}, {test['images']} images</h2>" in page
        for model, row in test["models"].items():
            assert re.search(rf"<td>{model}</td><td>{100 * row['miou']:.1f}</td>", page)
    assert all(text in page for text in result["hashes"].values())
    against = result["test_sets"]["held_out_inverted"]["student_minus"]["teacher_by_inversion"]
    assert against["low"] <= against["value"] <= against["high"]
    assert f"between {100 * against['low']:+.1f} and {100 * against['high']:+.1f}" in page


def test_it_shows_pictures_and_charts(page):
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    opened = [Image.open(io.BytesIO(base64.b64decode(text))) for text in pictures]
    assert len(opened) == 4  # of two sets the ranked pictures, and the inversions
    assert all(len(picture.getcolors(10**6) or ()) > 20 for picture in opened)
    # Bars of each table with a teacher, speed, two trainings.
    assert page.count("<svg") == 3 + 1 + 2


def test_absent_classes_and_inversions_are_told(finished):
    result = read_json(finished / "compare/comparison.json")["test_sets"]
    few = result["held_out_inverted"]
    assert few["images"] == 3 and len(few["psnr_each"]) == 3
    assert few["inversion"]["steps"] == 6
    assert set(result) == {"generated", "generated_inverted", "held_out", "held_out_inverted"}
