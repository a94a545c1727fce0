"""Draw what `strokes.py` measured: mIoU against the number of strokes, for each way to choose samples.

    python benchmarks/strokes_chart.py benchmarks/results/strokes.json --out docs/strokes.svg

A point is the mean over the seeds, with a line from the lowest to the highest; level lines are whole
masks.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.strokes import FULL
from common.files import read_json
from evaluation.charts import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ["#d1495b", "#00798c", "#edae49", "#7a5195"]
TEACHER, STUDENT = "teacher_generated", "student_held_out"
# What a row has, the line, the mark and whether it is filled.
KINDS = {
    "teacher": (TEACHER, "-", "o", False),
    "student": (STUDENT, "--", "s", False),
    "teacher, two rounds": (TEACHER, "-", "o", True),
    "student, two rounds": (STUDENT, "--", "s", True),
}


def chart(rows: list[dict[str, Any]]) -> str:
    """All rows as SVG text."""
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for kind, (figure, *_, is_second) in KINDS.items():
            found = row.get("second_round", {}) if is_second else row
            if figure in found:
                values[row["policy"], kind][row["strokes"]].append(100 * found[figure])
    colours = dict(zip(sorted({row["policy"] for row in rows} - {FULL}), COLOURS, strict=False))

    def draw(axes: "Axes") -> None:
        for (policy, kind), points in values.items():
            _, line, mark, is_filled = KINDS[kind]
            at = sorted(points)
            means = [sum(points[n]) / len(points[n]) for n in at]
            if policy == FULL:
                for n, mean in zip(at, means, strict=True):
                    masks = "1 whole mask" if n == 1 else f"{n} whole masks"
                    axes.axhline(mean, color="#8a8f98", linestyle=line, linewidth=0.9)
                    axes.annotate(
                        f"{kind}, {masks}", (0.01, mean), (0, 2), xycoords=("axes fraction", "data"),
                        textcoords="offset points", fontsize=7, color="#5b6068",
                    )  # fmt: skip
                continue
            spread = [
                [m - min(points[n]) for n, m in zip(at, means, strict=True)],
                [max(points[n]) - m for n, m in zip(at, means, strict=True)],
            ]
            axes.errorbar(
                at, means, spread, color=colours[policy], linestyle=line, marker=mark, ms=4,
                linewidth=1.8 if is_filled else 0.9,
                mfc=colours[policy] if is_filled else "none", capsize=3, label=f"{policy}, {kind}",
            )  # fmt: skip
        ticks = sorted({row["strokes"] for row in rows if row["policy"] != FULL})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
        axes.set(xlabel="strokes", ylabel="mIoU, %")
        axes.margins(x=0.12)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="lower right", fontsize=7)

    return svg(draw, 4.2)


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
