"""The figures of a comparison as tables, the same in the terminal and in the report."""

import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluation.scoring import EXPORTED, STUDENT

LEGEND = (
    "IoU in percent: mean over classes, mean without background, mean over the edges of classes (boundary "
    "IoU), each class; then the share of pixels that are right. Times are of one image at a time."
)


@dataclass(frozen=True)
class Figures:
    """One test set: a row of cells for every model, in the order of `header`."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def tabulate(name: str, test: dict[str, Any], classes: list[str]) -> Figures:
    """The table of a test set of `comparison.json`."""
    header = ["model", "mIoU", "no bg", "edges", *classes, "pixels", "ms/image"]
    rows = []
    for model, row in test["models"].items():
        shares = [row["miou"], row["miou_foreground"], row["boundary_miou"]]
        shares += [row["iou"].get(label) for label in classes]
        shares.append(row["pixel_accuracy"])
        cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
        rows.append([model, *cells, f"{1000 * row['seconds_per_image']:.1f}"])
    notes = []
    if test.get("map", "none") != "none":
        notes.append(f"classes: {test['map']}; split {test['split']}")
    if "psnr" in test:
        notes.append(
            f"pictures drawn again with a PSNR of {test['psnr']:.1f} dB on average; in batches that takes "
            f"{test['seconds_in_batches']:.1f} s an image"
        )
    for teacher, against in test["student_minus"].items():
        value, low, high = (100 * against[key] for key in ("value", "low", "high"))
        times = against["times_faster"]
        notes.append(
            f"student - {teacher}: {value:+.1f} mIoU (95 %: {low:+.1f} to {high:+.1f}), "
            f"{100 * against['agreement']:.1f} % of pixels alike, "
            f"{times[STUDENT]:.0f} times as fast, exported {times[EXPORTED]:.0f} times"
        )
    if absent := next(iter(test["models"].values()))["absent"]:
        notes.append(f"not in the truth, and not averaged: {', '.join(absent)}")
    return Figures(f"{name}, {test['images']} images", header, rows, notes)


def print_tables(result: dict[str, Any]) -> None:
    """The comparison in the terminal, a table for each test set."""
    # A log file has no width of its own; there the table keeps its full one.
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name, test in result["test_sets"].items():
        figures = tabulate(name, test, result["classes"])
        table = Table(title=figures.title, caption="\n".join(figures.notes), caption_justify="left")
        for i, column in enumerate(figures.header):
            table.add_column(column, justify="right" if i else "left")
        for row in figures.rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{LEGEND} On {result['hardware']}.")
