"""The comparison as one file to send to others: `report.html`, which loads nothing.

It has tables, charts and images and, at its end, the configs and hashes that it takes to repeat the run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.stage_folder import CONFIG, StageFolder
from datasets.labels import LabelSet
from evaluation.charts import class_iou_bars, speed_chart, training_curve
from evaluation.pages import REPORT, write_page
from evaluation.predictions import SetPredictions
from evaluation.report_images import file_data_url, ranked_images
from evaluation.rounds import rounds_table
from evaluation.rows import EXPORTED, INVERTED, STUDENT, TEACHER_BY_INVERSION, TEACHERS
from evaluation.tables import comparison_table, legend
from evaluation.unlabelled import section

INVERSION_SHEET = "inversion_{}.png"  # of a test set by name


def write_report(
    folder: StageFolder,
    result: dict[str, Any],
    sets: Mapping[str, SetPredictions],
    labels: LabelSet,
) -> None:
    """Write `report.html`.

    Args:
        folder: of the stage `compare`.
        result: the content of `comparison.json`.
        sets: the predictions for every test set of `result`.
        labels: the classes.
    """
    most_models = max(
        result["test_sets"].items(), key=lambda item: len(item[1]["models"]), default=None
    )
    logs = {name: _read_log(folder.inputs[name]) for name in ("teacher", "student")}
    configs = {name: path / CONFIG for name, path in folder.inputs.items()}
    configs["compare"] = folder.path / CONFIG
    write_page(
        folder.path / REPORT,
        "report.html.jinja",
        result=result,
        labels=labels,
        headline=_headline(result),
        legend=legend(),
        rounds=rounds_table(result["rounds"]) if "rounds" in result else None,
        tests=[_section(name, folder, result, sets, labels) for name in result["test_sets"]],
        unlabelled=section(result["photographs"], folder) if "photographs" in result else None,
        speed=speed_chart(*most_models) if most_models else None,
        curves={name: training_curve(log) for name, log in logs.items() if log},
        configs={
            name: json.dumps(json.loads(path.read_text()), indent=2)
            for name, path in configs.items()
            if path.is_file()
        },
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )


def _section(
    name: str,
    folder: StageFolder,
    result: dict[str, Any],
    sets: Mapping[str, SetPredictions],
    labels: LabelSet,
) -> dict[str, Any]:
    """The template's values for a test set.

    Ranked images are drawn once for a set: where it was inverted, of the inverted images, so that the
    teacher's masks stand beside the student's.
    """
    test_set, inverted = result["test_sets"][name], name.endswith(INVERTED)
    section: dict[str, Any] = dict.fromkeys(("bars", "images", "inversion"))
    section["table"] = comparison_table(name, test_set, result["classes"])
    section["matrices"] = {
        model: _row_percent(row["confusion"])
        for model, row in test_set["models"].items()
        if model == STUDENT or model in TEACHERS
    }
    if test_set["student_minus"]:
        section["bars"] = class_iou_bars(test_set, result["classes"])
    if inverted:
        sheet = folder.path / INVERSION_SHEET.format(name.removesuffix(INVERTED))
        section["inversion"] = file_data_url(sheet)
    if inverted or name + INVERTED not in sets:
        section["images"] = ranked_images(sets[name], labels)
    return section


def _headline(result: dict[str, Any]) -> list[str]:
    """The result in a sentence for each test set that has both the student and a teacher."""
    sentences = []
    for name, test_set in result["test_sets"].items():
        for teacher, difference in test_set["student_minus"].items():
            student_miou, teacher_miou = (
                100 * test_set["models"][model]["miou"] for model in (STUDENT, teacher)
            )
            features = "by inversion" if teacher == TEACHER_BY_INVERSION else "from true features"
            low, high = 100 * difference["low"], 100 * difference["high"]
            relation = "above" if low > 0 else "below" if high < 0 else "level with"
            times = difference["times_faster"]
            sentences.append(
                f"On {test_set['images']} images of {name.removesuffix(INVERTED)} the student has "
                f"{student_miou:.1f} mIoU and the teacher {features} {teacher_miou:.1f}: the student is "
                f"{relation} the teacher (95 % of the difference between {low:+.1f} and {high:+.1f}), and "
                f"{times[STUDENT]:.0f} times as fast ({times[EXPORTED]:.0f} times where it is exported)."
            )
    return sentences


def _read_log(stage: Path) -> dict[int, dict[str, float]]:
    """The lines of a stage's log by step; a resumed run may have written some of them twice."""
    log = stage / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["step"]: line for line in lines}


def _row_percent(matrix: list[list[int]]) -> list[list[float]]:
    """A confusion matrix in percent of each true class."""
    return [[100 * cell / max(sum(row), 1) for cell in row] for row in matrix]
