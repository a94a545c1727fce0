"""The comparison as one file that people send to each other: `report.html`, with nothing to load.

Tables, charts and pictures are inside it; what made them, and how to make them again, at its end.
"""

import base64
import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.confusion import confusion_of_each, mean_iou
from common.files import atomic_write
from common.stage_folder import StageFolder
from datasets.labels import LabelSet
from datasets.sheets import Picture, as_picture, grid
from evaluation.page import NEUTRAL, ink, svg, template
from evaluation.scoring import EXPORTED, INVERTED, STUDENT, TEACHERS, Scored
from evaluation.tables import LEGEND, tabulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT = "report.html"
INVERSION = "inversion_{}.png"
_EACH = 3  # of the best, the median and the worst pictures


def draw_comparison(sets: Mapping[str, Scored], labels: LabelSet, shown: int) -> Picture:
    """All test sets side by side: picture, truth and every model's masks."""
    drawn = []
    for name, scored in _fullest(sets).items():
        columns = {name: [as_picture(p) for p in scored.pictures[:shown]]}
        for title, masks in ({"truth": scored.truth} | scored.masks).items():
            if title == EXPORTED:
                continue  # says what the student says
            columns[title] = [labels.paint(mask.numpy()) for mask in masks[:shown]]
        drawn.append(grid(columns, labels))
    height = max(sheet.shape[0] for sheet in drawn)
    padded = [
        np.pad(s, ((0, height - s.shape[0]), (0, 16), (0, 0)), constant_values=255) for s in drawn
    ]
    return np.concatenate(padded, axis=1)


def _fullest(sets: Mapping[str, Scored]) -> dict[str, Scored]:
    """Every set by its name, in fewer pictures with a model more where there was an inversion."""
    return {n: sets.get(n + INVERTED, s) for n, s in sets.items() if not n.endswith(INVERTED)}


def write_report(
    folder: StageFolder, result: dict[str, Any], sets: Mapping[str, Scored], labels: LabelSet
) -> None:
    """Write `report.html`.

    Args:
        result: what stands in `comparison.json`.
    """
    page = template("report.html.jinja").render(
        result=result,
        labels=labels,
        headline=_headline(result),
        legend=LEGEND,
        tests=[_section(name, folder, result, sets, labels) for name in result["test_sets"]],
        speed=svg(partial(_speed, result=result), 7.5, 3.6),
        curves={
            stage: svg(partial(_curve, lines=lines), 7.5, 2.8)
            for stage, path in folder.inputs.items()
            if stage in ("teacher", "student") and (lines := _metrics(path))
        },
        made={
            stage: json.dumps(json.loads((path / "config.json").read_text()), indent=2)
            for stage, path in {**folder.inputs, "compare": folder.path}.items()
            if (path / "config.json").is_file()
        },
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )
    with atomic_write(folder.path / REPORT) as file:
        file.write_text(page, encoding="utf-8")


def _section(
    name: str,
    folder: StageFolder,
    result: dict[str, Any],
    sets: Mapping[str, Scored],
    labels: LabelSet,
) -> dict[str, Any]:
    """What the page shows of a test set. Pictures stand where the teacher says most of them."""
    test, inverted = result["test_sets"][name], name.endswith(INVERTED)
    section: dict[str, Any] = dict.fromkeys(("bars", "pictures", "inversion"))
    section["figures"] = tabulate(name, test, result["classes"])
    section["matrices"] = {
        model: _shares(row["confusion"])
        for model, row in test["models"].items()
        if model == STUDENT or model in TEACHERS
    }
    if test["student_minus"]:
        section["bars"] = svg(partial(_bars, test=test, classes=result["classes"]), 7.5, 3.2)
    if inverted:
        section["inversion"] = _file(folder.path / INVERSION.format(name.removesuffix(INVERTED)))
    if inverted or name + INVERTED not in sets:
        section["pictures"] = _ranked(sets[name], labels)
    return section


def _headline(result: dict[str, Any]) -> list[str]:
    """What the comparison says, in a sentence for each set that student and a teacher share."""
    said = []
    for name, test in result["test_sets"].items():
        for teacher, against in test["student_minus"].items():
            mine, theirs = (100 * test["models"][m]["miou"] for m in (STUDENT, teacher))
            how = "by inversion" if teacher == TEACHERS[1] else "from true features"
            sure = (
                "above" if against["low"] > 0 else "below" if against["high"] < 0 else "level with"
            )
            said.append(
                f"On {test['images']} pictures of {name.removesuffix(INVERTED)} the student has "
                f"{mine:.1f} mIoU and the teacher {how} {theirs:.1f}: it is {sure} it (95 % of the "
                f"difference between {100 * against['low']:+.1f} and {100 * against['high']:+.1f}), and "
                f"{against['times_faster'][STUDENT]:.0f} times as fast "
                f"({against['times_faster'][EXPORTED]:.0f} times where it is exported)."
            )
    return said


def _metrics(stage: Path) -> dict[int, dict[str, float]]:
    """The lines of a stage's log by step; a resumed run may have written some of them twice."""
    log = stage / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["step"]: line for line in lines}


def _bars(axes: "Axes", test: dict[str, Any], classes: list[str]) -> None:
    """IoU of every class, teacher beside student."""
    shown = [m for m in (*TEACHERS, STUDENT) if m in test["models"]]
    width = 0.8 / len(shown)
    for i, model in enumerate(shown):
        iou = test["models"][model]["iou"]
        heights = [100 * iou.get(name, np.nan) for name in classes]
        places = np.arange(len(classes)) + (i - (len(shown) - 1) / 2) * width
        axes.bar(places, heights, 0.92 * width, label=model, color=ink(model))
    axes.set_xticks(range(len(classes)), classes)
    axes.set(ylabel="IoU, %", ylim=(0, 100))
    axes.legend(ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))


def _speed(axes: "Axes", result: dict[str, Any]) -> None:
    """IoU against the time of an image, of the test set with most models."""
    name, test = max(result["test_sets"].items(), key=lambda item: len(item[1]["models"]))
    for model, row in test["models"].items():
        at = (1000 * row["seconds_per_image"], 100 * row["miou"])
        axes.plot(*at, "o", ms=9, color=ink(model))
        axes.annotate(model, at, xytext=(7, 5), textcoords="offset points")
    axes.set(xscale="log", xlabel="milliseconds for an image", ylabel="mIoU, %", title=name)
    axes.margins(x=0.2, y=0.15)
    axes.grid(alpha=0.25)


def _curve(axes: "Axes", lines: dict[int, dict[str, float]]) -> None:
    """Loss, and mIoU where it was measured, over the steps of a training."""
    axes.plot(list(lines), [line["loss"] for line in lines.values()], color=NEUTRAL)
    axes.set(xlabel="step", ylabel="loss")
    key = next(
        (k for k in ("miou", "validation/miou") if any(k in x for x in lines.values())), None
    )
    if key:
        measured = {step: 100 * line[key] for step, line in lines.items() if key in line}
        other = axes.twinx()
        other.plot(list(measured), list(measured.values()), "o-", ms=3, color=ink(STUDENT))
        other.set_ylabel("mIoU, %", color=ink(STUDENT))


def _shares(matrix: list[list[int]]) -> list[list[float]]:
    """Rows of a confusion matrix in percent of the true class."""
    return [[100 * cell / max(sum(row), 1) for cell in row] for row in matrix]


def _ranked(scored: Scored, labels: LabelSet) -> dict[str, str]:
    """The student's best, median and worst pictures, by the mIoU of each: a sheet for every caption."""
    student = scored.masks[STUDENT]
    each = mean_iou(confusion_of_each(scored.truth, student, len(labels)))
    order = each.argsort(descending=True).tolist()
    middle = (len(order) - _EACH) // 2
    groups = {
        "Best": order[:_EACH],
        "Median": order[middle : middle + _EACH],
        "Worst": order[-_EACH:],
    }
    if len(order) < len(groups) * _EACH:
        groups = {"All, the best first": order}
    sheets = {}
    for name, chosen in groups.items():
        reached = ", ".join(f"{100 * each[i]:.1f}" for i in chosen)
        sheets[f"{name}: mIoU {reached}"] = _png(_beside(scored, chosen, labels))
    return sheets


def _beside(scored: Scored, chosen: list[int], labels: LabelSet) -> Picture:
    """Pictures, their masks by truth, teacher and student, and where these are wrong."""
    models = [*[m for m in reversed(TEACHERS) if m in scored.masks][:1], STUDENT]
    columns = {"picture": [as_picture(scored.pictures[i]) for i in chosen]}
    for title, masks in {"truth": scored.truth, **{m: scored.masks[m] for m in models}}.items():
        columns[title] = [labels.paint(masks[i].numpy()) for i in chosen]
    for model in models:
        columns[f"{model.partition('_')[0]} wrong"] = [
            _mistakes(
                scored.pictures[i], scored.truth[i], scored.masks[model][i], labels.ignore_index
            )
            for i in chosen
        ]
    return grid(columns)


def _mistakes(picture: Tensor, truth: Tensor, said: Tensor, ignore_index: int) -> Picture:
    """A pale picture, red where a mask is not the truth."""
    pale = 255 - (255 - picture.float().mean(0)) * 0.45
    wrong = (truth != said) & (truth != ignore_index)
    red = torch.tensor([200.0, 30.0, 45.0]).view(3, 1, 1)
    return as_picture(torch.where(wrong, red, pale).to(torch.uint8))


def _png(picture: Picture) -> str:
    """A picture as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _file(path: Path) -> str:
    with Image.open(path) as picture:
        return _png(np.asarray(picture.convert("RGB")))
