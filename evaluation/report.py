"""The comparison for people: tables in the terminal, a sheet of pictures."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from datasets.labels import LabelSet
from datasets.pictures import Picture, as_picture, grid
from evaluation.scoring import INVERTED, Scored


def draw_comparison(sets: Mapping[str, Scored], labels: LabelSet, shown: int) -> Picture:
    """All test sets side by side: picture, truth and every model's masks."""
    drawn = []
    for name, all_of_it in sets.items():
        if name.endswith(INVERTED):
            continue
        scored = sets.get(name + INVERTED, all_of_it)  # the first pictures, and a model more
        columns = {name: [as_picture(p) for p in scored.pictures[:shown]]}
        for title, masks in ({"truth": scored.truth} | scored.masks).items():
            columns[title] = [labels.paint(mask.numpy()) for mask in masks[:shown]]
        drawn.append(grid(columns, labels))
    height = max(sheet.shape[0] for sheet in drawn)
    padded = [
        np.pad(s, ((0, height - s.shape[0]), (0, 16), (0, 0)), constant_values=255) for s in drawn
    ]
    return np.concatenate(padded, axis=1)


def print_tables(result: dict[str, Any]) -> None:
    """The comparison in the terminal, a table for each test set."""
    # A log file has no width of its own; there the table keeps its full one.
    console = Console(width=None if sys.stdout.isatty() else 130)
    for name, test in result["test_sets"].items():
        title = f"{name}: {test['images']} images, IoU in percent"
        notes = []
        if test.get("map", "none") != "none":
            notes.append(f"classes: {test['map']}")
        if "psnr" in test:
            notes.append(f"pictures drawn again with a PSNR of {test['psnr']:.1f} dB on average")
        for teacher, against in test["student_minus"].items():
            value, low, high = (100 * against[key] for key in ("value", "low", "high"))
            notes.append(
                f"student - {teacher}: {value:+.1f} mIoU (95 %: {low:+.1f} to {high:+.1f}), "
                f"{100 * against['agreement']:.1f} % of pixels alike, "
                f"{against['times_faster']:.0f} times as fast"
            )
        absent = next(iter(test["models"].values()))["absent"]
        if absent:
            notes.append(f"not in the truth, and not averaged: {', '.join(absent)}")
        table = Table(title=title, caption="\n".join(notes) or None, caption_justify="left")
        table.add_column("model")
        for column in ("mIoU", "no bg", "edges", *result["classes"], "pixels", "ms/image"):
            table.add_column(column, justify="right")
        for model, row in test["models"].items():
            shares = [row["miou"], row["miou_foreground"], row["boundary_miou"]]
            shares += [row["iou"].get(label) for label in result["classes"]]
            shares.append(row["pixel_accuracy"])
            cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
            table.add_row(model, *cells, f"{1000 * row['seconds_per_image']:.1f}")
        console.print(table)
    console.print(
        f"mIoU of all classes and without background, of their edges (boundary IoU), share of pixels; "
        f"one image at a time on {result['hardware']}, inversions in batches"
    )
