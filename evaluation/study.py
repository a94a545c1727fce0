"""Several whole runs side by side: over seeds, draws of the labelled samples, and their number.

One run says little about three labelled samples: another draw, or another seed, gives other figures. A
study's runs share generator and test sets; each has a folder of its own.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.files import atomic_write, read_json, write_json
from evaluation.charts import label_count_curves
from evaluation.compare import RESULT
from evaluation.pages import REPORT, write_page
from evaluation.rows import STUDENT, TEACHER, TEACHER_BY_INVERSION
from evaluation.tables import Table, print_table

SUMMARY = "summary.json"
_CURVES = (STUDENT, TEACHER, TEACHER_BY_INVERSION, "labels_alone", "supervised")
_DIFFERENCE = "student - "

Row = dict[str, Any]  # of `summary.json`: one model on one test set with one number of labels


def summarise(folder: Path, runs: Iterable[Path]) -> dict[str, Any]:
    """Read the runs' comparisons; write and print mean and standard deviation of their mIoU.

    Writes `summary.json`, `report.html` and, where the runs differ in their number of labels, a chart for
    each test set, to `folder`.

    Args:
        folder: of the study.
        runs: the folders of finished runs.
    """
    results = {run.name: read_json(run / "compare" / RESULT) for run in runs}
    about = [
        {
            "run": name,
            "labelled_samples": result["labelled_samples"],
            "hashes": result["hashes"],
        }
        for name, result in results.items()
    ]
    rows = _summary_rows(results.values())
    write_json(folder / SUMMARY, {"rows": rows, "runs": about})
    names = list(dict.fromkeys(row["test_set"] for row in rows))
    by_set = {name: [row for row in rows if row["test_set"] == name] for name in names}
    tables = [_table(name, some) for name, some in by_set.items()]
    for table in tables:
        print_table(table)
    curves = {
        name: label_count_curves(_points(some))
        for name, some in by_set.items()
        if len({row["labelled_samples"] for row in some}) > 1
    }
    for name, chart in curves.items():
        with atomic_write(folder / f"{name}.svg") as file:
            file.write_text(chart, encoding="utf-8")
    write_page(folder / REPORT, "study.html.jinja", tables=tables, curves=curves, runs=about)
    return {"rows": rows, "runs": about}


def _summary_rows(results: Iterable[dict[str, Any]]) -> list[Row]:
    """mIoU of every model, and of the student's differences, over the runs with as many labels."""
    values: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for result in results:
        labels = result["labelled_samples"]
        for name, test_set in result["test_sets"].items():
            for model, row in test_set["models"].items():
                values[name, labels, model].append(row["miou"])
            for teacher, difference in test_set["student_minus"].items():
                values[name, labels, _DIFFERENCE + teacher].append(difference["value"])
    return [
        {
            "test_set": name, "labelled_samples": labels, "model": model, "runs": len(each),
            "mean": statistics.mean(each),
            "deviation": statistics.stdev(each) if len(each) > 1 else None,
            "each": each,
        }
        for (name, labels, model), each in sorted(values.items(), key=lambda item: item[0][:2])
    ]  # fmt: skip


def _table(name: str, rows: Sequence[Row]) -> Table:
    """One test set: a row for each model, a column for each number of labels."""
    counts = sorted({row["labelled_samples"] for row in rows})
    cells = {(row["model"], row["labelled_samples"]): _cell(row) for row in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    body = [[model, *(cells.get((model, count), "-") for count in counts)] for model in models]
    return Table(name, ["mIoU", *(f"{n} label{'s' * (n > 1)}" for n in counts)], body)


def _cell(row: Row) -> str:
    sign = "+" if row["model"].startswith(_DIFFERENCE) else ""
    mean = f"{100 * row['mean']:{sign}.1f}"
    return mean if row["deviation"] is None else f"{mean} ± {100 * row['deviation']:.1f}"


def _points(rows: Sequence[Row]) -> dict[str, list[tuple[int, float, float]]]:
    """Labels, mean and deviation of the models that have a curve."""
    points = {
        model: [
            (row["labelled_samples"], row["mean"], row["deviation"] or 0.0)
            for row in rows
            if row["model"] == model
        ]
        for model in _CURVES
    }
    return {model: line for model, line in points.items() if line}
