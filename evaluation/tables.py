"""Figures as tables, the same in the terminal and on the pages."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from evaluation.metrics import METRICS
from evaluation.rows import EXPORTED, STUDENT


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: above the table.
        header: a heading for each column.
        rows: the cells of each row; the first one is its name.
        notes: sentences below the table.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()


def comparison_table(name: str, test_set: dict[str, Any], classes: list[str]) -> Table:
    """The table of a test set of `comparison.json`: a row for each model, a column for each metric."""
    headings = [metric.heading for metric in METRICS.values()]
    rows = []
    for model, row in test_set["models"].items():
        shares = [row[key] for key in METRICS] + [row["iou"].get(label) for label in classes]
        cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
        rows.append([model, *cells, f"{1000 * row['seconds_per_image']:.1f}"])
    return Table(
        f"{name}, {test_set['images']} images",
        ["model", *headings, *classes, "ms/image"],
        rows,
        _notes(test_set),
    )


def legend() -> str:
    """What the columns of `comparison_table` are."""
    meanings = "; ".join(f"{metric.heading} = {metric.meaning}" for metric in METRICS.values())
    return (
        f"In percent: {meanings}; then the IoU of each class. ms/image = milliseconds for an image, "
        "one at a time."
    )


def _notes(test_set: dict[str, Any]) -> list[str]:
    notes = []
    if test_set.get("map", "none") != "none":
        notes.append(f"classes: {test_set['map']}; split {test_set['split']}")
    if "psnr" in test_set:
        notes.append(
            f"mean PSNR of the inverted images {test_set['psnr']:.1f} dB; in batches the inversion takes "
            f"{test_set['seconds_in_batches']:.1f} s an image"
        )
    for teacher, difference in test_set["student_minus"].items():
        value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
        times = difference["times_faster"]
        notes.append(
            f"student - {teacher}: {value:+.1f} mIoU (95 %: {low:+.1f} to {high:+.1f}), "
            f"the same class on {100 * difference['agreement']:.1f} % of pixels, "
            f"{times[STUDENT]:.0f} times as fast, exported {times[EXPORTED]:.0f} times"
        )
    if absent := next(iter(test_set["models"].values()))["absent"]:
        notes.append(f"absent from the ground truth, and not averaged: {', '.join(absent)}")
    return notes


def print_table(table: Table) -> None:
    """Print a table; at its full width where the output is a log file, which has no width."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    printed = RichTable(title=table.title, caption="\n".join(table.notes), caption_justify="left")
    for i, heading in enumerate(table.header):
        printed.add_column(heading, justify="right" if i else "left")
    for row in table.rows:
        printed.add_row(*row)
    console.print(printed)


def print_legend(hardware: str) -> None:
    """Print what the columns of `comparison_table` are, and the hardware of the times."""
    Console(width=None if sys.stdout.isatty() else 140).print(f"{legend()} On {hardware}.")
