"""Charts as SVG text, to stand inside a page or alone."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.rows import STUDENT, TEACHER, TEACHER_BY_INVERSION, TEACHERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 7.5  # inches
_GREY = "#8a8f98"
_COLOURS = {
    STUDENT: "#d1495b", TEACHER: "#00798c", TEACHER_BY_INVERSION: "#66a3ad",
    "labels_alone": "#edae49", "supervised": "#30638e",
}  # fmt: skip


def colour_of(model: str) -> str:
    """The colour of a model's row in every chart; grey for most."""
    return _COLOURS.get(model, _GREY)


def svg(draw: Callable[["Axes"], None], height: float, *beside: Callable[["Axes"], None]) -> str:
    """Draw a chart on white, 7.5 by `height` inches, as SVG text that scales with its page.

    Args:
        beside: draw further panels to the right, with the same scale upwards.
    """
    import matplotlib as mpl  # slow to import; only these pages need it
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "svg.hashsalt": "threeshot",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure((_WIDTH, height), layout="constrained")
        panels = figure.subplots(1, 1 + len(beside), sharey=True, squeeze=False)[0]
        for axes, drawing in zip(panels, (draw, *beside), strict=True):
            drawing(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]  # without the XML header


def class_iou_bars(test_set: dict[str, Any], classes: list[str]) -> str:
    """IoU of every class, teachers beside student."""

    def draw(axes: "Axes") -> None:
        models = [model for model in (*TEACHERS, STUDENT) if model in test_set["models"]]
        width = 0.8 / len(models)
        for i, model in enumerate(models):
            iou = test_set["models"][model]["iou"]
            heights = [100 * iou.get(name, np.nan) for name in classes]
            x = np.arange(len(classes)) + (i - (len(models) - 1) / 2) * width
            axes.bar(x, heights, 0.92 * width, label=model, color=colour_of(model))
        axes.set_xticks(range(len(classes)), classes)
        axes.set(ylabel="IoU, %", ylim=(0, 100))
        axes.legend(ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))

    return svg(draw, 3.2)


def speed_chart(name: str, test_set: dict[str, Any]) -> str:
    """mIoU of every model against its time for an image."""

    def draw(axes: "Axes") -> None:
        for model, row in test_set["models"].items():
            point = (1000 * row["seconds_per_image"], 100 * row["miou"])
            axes.plot(*point, "o", ms=9, color=colour_of(model))
            axes.annotate(model, point, xytext=(7, 5), textcoords="offset points")
        axes.set(xscale="log", xlabel="milliseconds for an image", ylabel="mIoU, %", title=name)
        axes.margins(x=0.2, y=0.15)
        axes.grid(alpha=0.25)

    return svg(draw, 3.6)


def training_curve(log: dict[int, dict[str, float]]) -> str:
    """Loss and, where it was measured, validation mIoU over the steps of a training.

    Args:
        log: the lines of `metrics.jsonl` by step.
    """

    def draw(axes: "Axes") -> None:
        axes.plot(list(log), [line["loss"] for line in log.values()], color=_GREY)
        axes.set(xlabel="step", ylabel="loss")
        for key in ("miou", "validation/miou"):
            if measured := {step: 100 * line[key] for step, line in log.items() if key in line}:
                other, colour = axes.twinx(), colour_of(STUDENT)
                other.plot(list(measured), list(measured.values()), "o-", ms=3, color=colour)
                other.set_ylabel("mIoU, %", color=colour)

    return svg(draw, 2.8)


def label_count_curves(points: dict[str, list[tuple[int, float, float]]]) -> str:
    """mIoU of models against the number of labelled samples.

    Args:
        points: for each model (labelled samples, mean, standard deviation), the last two in [0, 1].
    """

    def draw(axes: "Axes") -> None:
        for model, line in points.items():
            counts, means, deviations = zip(*line, strict=True)
            axes.errorbar(
                counts, 100 * np.array(means), 100 * np.array(deviations), marker="o", ms=4, capsize=3,
                label=model, color=colour_of(model),
            )  # fmt: skip
        ticks = sorted({point[0] for line in points.values() for point in line})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(count) for count in ticks])
        axes.minorticks_off()
        axes.set(xlabel="labelled samples", ylabel="mIoU, %")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    return svg(draw, 3.8)
