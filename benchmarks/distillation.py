"""What helps the student, and how far is it from exact masks? The demo in several ways, over seeds.

    make annotator && python benchmarks/distillation.py --out runs/distillation

Every way is the demo's config with some options changed; the demo itself is compared with its references
as well, with `perfect_teacher` where there is an annotator. Prints JSON. The same command resumes it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from common.confusion import predicted_miou
from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import read_annotated
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from student.network import load_student, predictor

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "assets/faces64"


@dataclass(frozen=True)
class Way:
    """Options beyond the demo's. `parent` is the way whose teacher and shards are taken."""

    teacher: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    parent: str = ""


_ALL = ("--label.top_k", "8")  # so that ways with soft labels can share the shards
_NETWORK = "--teacher.network."
WAYS = {
    "demo": Way(label=_ALL),
    "all_kept": Way(label=(*_ALL, "--label.drop_uncertain", "0"), parent="demo"),
    "soft": Way(label=_ALL, student=("--student.targets", "soft"), parent="demo"),
    "soft_at_2": Way(
        label=_ALL, student=("--student.targets", "soft", "--student.temperature", "2"), parent="demo"
    ),
    "unweighted": Way(label=_ALL, student=("--student.confidence_power", "0"), parent="demo"),
    "no_dice": Way(label=_ALL, student=("--student.dice_weight", "0"), parent="demo"),
    "twice_the_steps": Way(label=_ALL, student=("--student.steps", "1600"), parent="demo"),
    "no_lovasz": Way(label=_ALL, student=("--student.lovasz_weight", "0"), parent="demo"),
    "no_average": Way(label=_ALL, student=("--student.ema_decay", "0"), parent="demo"),
    "float32": Way(label=_ALL, student=("--student.precision", "no"), parent="demo"),
    "more_augmentation": Way(
        label=_ALL, parent="demo",
        student=(
            "--student.augmentation.shift", "0.06", "--student.augmentation.scale", "0.15",
            "--student.augmentation.rotate", "12", "--student.augmentation.colour", "0.3",
            "--student.augmentation.hue", "0.04", "--student.augmentation.blur", "0.2",
            "--student.augmentation.noise", "0.3",
        ),
    ),
    "unbalanced": Way(("--teacher.standardise", "false")),
    "unbalanced_short": Way(
        (
            "--teacher.standardise", "false", "--teacher.epochs", "100", "--teacher.lr_decay_epoch", "50",
            _NETWORK + "channel_dropout", "0.2", _NETWORK + "head_dropout", "0.2",
        ),
    ),
    "ensemble": Way((_NETWORK + "members", "5"), _ALL),
}  # fmt: skip
_ANNOTATOR = ROOT / "runs/annotator/student"


def run_way(name: str, seed: int, out: Path, threads: int) -> dict[str, float]:
    """Teacher, labels and student of one way and seed; figures in mIoU."""
    way, run = WAYS[name], out / f"{name}-{seed}"
    if way.parent and not (run / "label").exists():
        parent = out / f"{way.parent}-{seed}"
        shutil.copytree(parent / "teacher", run / "teacher")
        (run / "label").mkdir()
        for shard in (parent / "label").glob("shard-*.zip"):
            os.link(shard, run / "label" / shard.name)
    options = [
        "--run.dir", str(run), "--teacher.seed", str(seed), "--student.seed", str(seed),
        "--label.seed", str(1000 + seed), *way.teacher, *way.label, *way.student,
    ]  # fmt: skip
    if _ANNOTATOR.exists():
        options += ["--sources.annotator", str(_ANNOTATOR)]
    for stage in ("distill",) if name == "demo" else ("teacher", "label", "student"):
        subprocess.run(
            [
                sys.executable, str(ROOT / "train.py"), stage,
                "--config", str(ROOT / "configs/demo.yaml"), *options,
                # An annotator may have come since: what depends on it is then made anew.
                *(("--run.overwrite", "true") if name == "demo" else ()),
            ],
            check=True, cwd=ROOT, stdout=sys.stderr,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"},
        )  # fmt: skip
    if name == "demo":
        tests = read_json(run / "compare/manifest.json")["figures"]
        return {f"{row}_{test}": miou for test, rows in tests.items() for row, miou in rows.items()}
    labels = LabelSet.load(ROOT / "configs/labels/face8.yaml")
    source = artifact_hash(DEMO / "generator")
    samples, masks = read_annotated(DEMO / "annotated_test", labels, source)
    teacher = read_json(run / "teacher/manifest.json")["figures"]["generated"]["miou"]
    student = predictor(load_student(run / "student")[0])
    return {
        "teacher_generated": teacher,
        "student_generated": predicted_miou(student, samples.images, masks, len(labels)),
        "student_held_out": predicted_miou(
            student, *RenderedFaces(777_000_001, 500, 64).whole(), len(labels)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, a core each")
    options = parser.parse_args()

    threads = max(1, (os.cpu_count() or 1) // options.at_once)
    figures: dict[str, Any] = {}
    # Ways without a parent first: the others take up what these have made.
    for with_parent in (False, True):
        names = [name for name in options.ways if bool(WAYS[name].parent) == with_parent]
        jobs = [(name, seed) for seed in range(options.seeds) for name in names]
        with ThreadPoolExecutor(options.at_once) as pool:
            rows = pool.map(
                partial(run_way, out=options.out, threads=threads), *zip(*jobs, strict=True)
            )
            for (name, _), row in zip(jobs, rows, strict=True):
                figures.setdefault(name, []).append(row)
                print(f"{name}: {row}", file=sys.stderr)
    result = {
        name: {
            key: {
                "mean": statistics.mean(row[key] for row in rows),
                "deviation": statistics.stdev(row[key] for row in rows) if len(rows) > 1 else None,
                "each": [row[key] for row in rows],
            }
            for key in rows[0]
        }
        for name, rows in figures.items()
    }
    about = {"seeds": options.seeds, **machine()}
    print(json.dumps({"ways": result, **about}, indent=2))


if __name__ == "__main__":
    main()
