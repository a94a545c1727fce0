"""The report of a real run, as a person gets it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from common.files import read_json


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "compare/report.html").read_text(encoding="utf-8")


def test_it_loads_nothing(page: str) -> None:
    loaded = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert loaded and all(address.startswith(("data:", "#")) for address in loaded)
    assert "<script" not in page


def test_every_element_is_closed(page: str) -> None:
    """Browsers forgive; what is not closed swallows what follows."""
    alone, opened = {"meta", "img", "br", "link"}, list[str]()

    class Walk(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in alone:
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag, self.getpos()

    Walk().feed(page)
    assert opened == []


def test_its_tables_hold_the_figures(page: str, finished: Path) -> None:
    result = read_json(finished / "compare/comparison.json")
    for name, test in result["test_sets"].items():
        assert f"<h2>{name}, {test['images']} images</h2>" in page
        for model, row in test["models"].items():
            assert re.search(rf"<td>{model}</td><td>{100 * row['miou']:.1f}</td>", page)
    assert all(text in page for text in result["hashes"].values())
    against = result["test_sets"]["held_out_inverted"]["student_minus"]["teacher_by_inversion"]
    assert against["low"] <= against["value"] <= against["high"]
    assert f"between {100 * against['low']:+.1f} and {100 * against['high']:+.1f}" in page


def test_it_shows_images_and_charts(page: str) -> None:
    urls = re.findall(r"data:image/png;base64,([^\"]+)", page)
    images = [Image.open(io.BytesIO(base64.b64decode(text))) for text in urls]
    assert len(images) == 4  # of two sets the ranked images, and the inversions
    assert all(len(image.getcolors(10**6) or ()) > 20 for image in images)
    # Bars of each table with a teacher, speed, two trainings.
    assert page.count("<svg") == 3 + 1 + 2


def test_every_image_and_inversion_has_its_values(finished: Path) -> None:
    result = read_json(finished / "compare/comparison.json")["test_sets"]
    few = result["held_out_inverted"]
    assert few["images"] == 3 and len(few["psnr_each"]) == 3
    assert few["inversion"]["steps"] == 6
    row = few["models"]["teacher_by_inversion"]
    assert list(row["per_image"]) == ["miou", "miou_foreground", "boundary_miou", "pixel_accuracy"]
    assert all(len(values) == 3 for values in row["per_image"].values())
    assert set(result) == {"generated", "generated_inverted", "held_out", "held_out_inverted"}
