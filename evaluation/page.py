"""What the pages for people have in common: their look, and charts as part of their text."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.scoring import BY_INVERSION, STUDENT, TRUE_FEATURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEUTRAL = "#8a8f98"
_INK = {
    STUDENT: "#d1495b", TRUE_FEATURES: "#00798c", BY_INVERSION: "#66a3ad",
    "labels_alone": "#edae49", "supervised": "#30638e",
}  # fmt: skip


def template(name: str) -> Any:
    """A page of this folder, ready to be filled."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.globals["zip"] = zip
    return pages.get_template(name)


def ink(model: str) -> str:
    """The colour of a model in every chart."""
    return _INK.get(model, NEUTRAL)


def svg(draw: Callable[["Axes"], None], width: float, height: float) -> str:
    """A chart as SVG text that scales with the page; on white, since it may stand elsewhere too."""
    import matplotlib as mpl  # here, since no other stage should wait for it at its start
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "svg.hashsalt": "threeshot",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure((width, height), layout="constrained")
        draw(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]  # a page has no XML header inside
