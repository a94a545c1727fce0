"""Several runs of a chain, held side by side: over seeds, draws of the labelled samples, their number.

A single run says little of three labelled samples: other three, or another seed, would have given other
figures. Here every run is a whole chain in a folder of its own, on the same generator and test sets.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from common.errors import UserError
from common.files import atomic_write, read_json, write_json
from evaluation.compare import RESULT
from evaluation.page import ink, svg, template
from evaluation.report import REPORT
from evaluation.scoring import BY_INVERSION, STUDENT, TRUE_FEATURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUMMARY = "summary.json"
_CURVES = (STUDENT, TRUE_FEATURES, BY_INVERSION, "labels_alone", "supervised")
_DIFFERENCE = "student - "


@dataclass(frozen=True)
class Variant:
    """One run of a study.

    Attributes:
        labels: annotated samples that it learns from.
        number: of the run; added to its seeds.
    """

    labels: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.labels}-labels-{self.number}"


def variants(repeat: int, shots: Sequence[int]) -> list[Variant]:
    """Every number of labels so many times, all numbers once before any is repeated.

    Raises:
        UserError: one of them is no count.
    """
    if repeat < 1 or any(n < 1 for n in shots):
        raise UserError("--repeat and the numbers of --shots are counts, 1 at least.")
    return [Variant(labels, number) for number in range(repeat) for labels in shots]


def enough_epochs(epochs: int, shots: int, labels: int) -> int:
    """Passes over `labels` samples that make no fewer steps than `epochs` over `shots`."""
    return max(epochs, math.ceil(epochs * shots / labels))


def summarise(folder: Path, runs: Iterable[Path]) -> dict[str, Any]:
    """Read the runs' comparisons; write and print what they say together.

    Writes `summary.json`, `report.html` and, where numbers of labels differ, curves to the folder.
    """
    cells: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    read = []
    for run in runs:
        result = read_json(run / "compare" / RESULT)
        labels = result["labelled_samples"]
        read.append({"run": run.name, "labelled_samples": labels, "hashes": result["hashes"]})
        for name, test in result["test_sets"].items():
            for model, row in test["models"].items():
                cells[name, labels, model].append(row["miou"])
            for teacher, against in test["student_minus"].items():
                cells[name, labels, _DIFFERENCE + teacher].append(against["value"])
    rows = [
        {
            "test_set": name, "labelled_samples": labels, "model": model, "runs": len(values),
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "each": values,
        }
        for (name, labels, model), values in sorted(cells.items(), key=lambda item: item[0][:2])
    ]  # fmt: skip
    summary = {"rows": rows, "runs": read}
    write_json(folder / SUMMARY, summary)
    tables = [*_tables(rows)]
    _print(tables)
    curves = {name: _curve_of(name, rows) for name in _test_sets(rows)}
    for name, chart in curves.items():
        if chart:
            with atomic_write(folder / f"{name}.svg") as file:
                file.write_text(chart, encoding="utf-8")
    page = template("study.html.jinja").render(
        tables=tables, curves=list(curves.values()), runs=read
    )
    with atomic_write(folder / REPORT) as file:
        file.write_text(page, encoding="utf-8")
    return summary


@dataclass(frozen=True)
class _Means:
    """One test set: a row for every model, a column for every number of labels."""

    title: str
    header: list[str]
    rows: list[list[str]]


def _tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[_Means]:
    for name in _test_sets(rows):
        mine = [row for row in rows if row["test_set"] == name]
        counts = sorted({row["labelled_samples"] for row in mine})
        cells = {(row["model"], row["labelled_samples"]): _cell(row) for row in mine}
        models = list(dict.fromkeys(row["model"] for row in mine))
        body = [[model, *(cells.get((model, n), "-") for n in counts)] for model in models]
        header = ["mIoU", *(f"{n} label{'s' * (n > 1)}" for n in counts)]
        yield _Means(name, header, body)


def _cell(row: Mapping[str, Any]) -> str:
    sign = "+" if row["model"].startswith(_DIFFERENCE) else ""
    mean = f"{100 * row['mean']:{sign}.1f}"
    return mean if row["deviation"] is None else f"{mean} ± {100 * row['deviation']:.1f}"


def _test_sets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["test_set"] for row in rows))


def _print(tables: Sequence[_Means]) -> None:
    console = Console()
    for means in tables:
        table = Table(*means.header, title=means.title)
        for row in means.rows:
            table.add_row(*row)
        console.print(table)


def _curve_of(name: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """mIoU against the number of labels as SVG, where there are several numbers."""
    mine = [row for row in rows if row["test_set"] == name]
    several = len({row["labelled_samples"] for row in mine}) > 1
    return svg(partial(_curve, rows=mine), 7.5, 3.8) if several else None


def _curve(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    for model in _CURVES:
        points = [row for row in rows if row["model"] == model]
        if not points:
            continue
        counts = [row["labelled_samples"] for row in points]
        spread = [100 * (row["deviation"] or 0) for row in points]
        heights = [100 * row["mean"] for row in points]
        axes.errorbar(
            counts, heights, spread, marker="o", ms=4, capsize=3, label=model, color=ink(model)
        )
    counts = sorted({row["labelled_samples"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.set(xlabel="labelled samples", ylabel="mIoU, %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
