"""Draw what `strokes.py` measured: mIoU against the number of strokes, for each way to choose samples.

    python benchmarks/strokes_chart.py benchmarks/results/strokes.json --out docs/strokes.svg

A point is the mean over the seeds, with a line from the lowest to the highest; level lines are whole
masks.
"""

import argparse
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.strokes import FULL
from common.files import read_json
from evaluation.charts import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ["#00798c", "#d1495b", "#edae49", "#7a5195"]
FIGURES = {"teacher, generated": "teacher_generated", "student, held_out": "student_held_out"}
ROUNDS = ("one round", "two rounds")
Values = dict[tuple[str, str], dict[int, list[float]]]  # by policy and rounds, then by strokes


def values_of(rows: list[dict[str, Any]], figure: str) -> Values:
    """A figure of all rows, in percent."""
    values: Values = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for rounds, found in zip(ROUNDS, (row, row.get("second_round", {})), strict=True):
            if figure in found:
                values[row["policy"], rounds][row["strokes"]].append(100 * found[figure])
    return values


def draw(rows: list[dict[str, Any]], title: str, axes: "Axes") -> None:
    """The panel of a figure."""
    policies = list(dict.fromkeys(row["policy"] for row in rows if row["policy"] != FULL))
    for (policy, rounds), points in values_of(rows, FIGURES[title]).items():
        is_last = rounds == ROUNDS[-1]
        at = sorted(points)
        means = [sum(points[n]) / len(points[n]) for n in at]
        width = 1.8 if is_last else 0.9
        if policy == FULL:
            for n, mean in zip(at, means, strict=True):
                axes.axhline(mean, color="#8a8f98", linewidth=width)
                name = "1 whole mask" if n == 1 else f"{n} whole masks"
                axes.annotate(
                    f"{name}, {rounds}", (0.99 if is_last else 0.01, mean), (0, 2 if is_last else -8),
                    xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7,
                    horizontalalignment="right" if is_last else "left", color="#5b6068",
                )  # fmt: skip
            continue
        spread = [
            [m - min(points[n]) for n, m in zip(at, means, strict=True)],
            [max(points[n]) - m for n, m in zip(at, means, strict=True)],
        ]
        colour = COLOURS[policies.index(policy)]
        axes.errorbar(
            at, means, spread, color=colour, marker="o", ms=4, linewidth=width, capsize=3,
            mfc=colour if is_last else "none", label=f"{policy}, {rounds}",
        )  # fmt: skip
    ticks = sorted({row["strokes"] for row in rows if row["policy"] != FULL})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set(xlabel="strokes", ylabel="mIoU, %", title=title)
    axes.label_outer()
    axes.set_xlim(0.8 * ticks[0], 1.25 * ticks[-1])
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right", fontsize=7)


def chart(rows: list[dict[str, Any]]) -> str:
    """All rows as SVG text."""
    return svg(
        partial(draw, rows, "teacher, generated"), 4.2, partial(draw, rows, "student, held_out")
    )


def main() -> None:
    """Read the rows and write the chart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="JSON of benchmarks/strokes.py")
    parser.add_argument("--out", type=Path, required=True, help="SVG file to write")
    options = parser.parse_args()
    options.out.write_text(chart(read_json(options.results)["rows"]), encoding="utf-8")


if __name__ == "__main__":
    main()
