"""How good are teacher and student after so many strokes? A simulated person draws; prints JSON.

    make annotator && python benchmarks/strokes.py --run runs/measured --out benchmarks/results/strokes.json

The person knows the annotator's masks. It looks at the answer for the sample on show and puts one stroke, a
short line of the brush, inside the largest region of one class that is wrong there. After a few strokes, or
when nothing is wrong, it asks for the next sample. The same command goes on where it was.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from common.confusion import confusion_matrix, iou_figures
from common.files import read_json, write_json
from common.stage_folder import artifact_hash
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet, Mask
from student.network import load_probabilities
from teacher.generators.choosing import choose_samples
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from teacher.page.answers import STEPS
from teacher.page.candidates import Candidates
from teacher.page.choice import doubt_of, most_worth
from teacher.page.output import AnnotatedFolder
from teacher.page.strokes import NOTHING, Line
from teacher.stroke_learner import StrokeLearner

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets/faces64"
CONFIG = "configs/strokes.yaml"
LABELS = LabelSet.load(ROOT / "configs/labels/face8.yaml")
SAMPLES, FIRST_SEED = 200, 500  # to choose from, and their seed beside the run's own
HELD_OUT, FRESH, BALD = 777_000_001, (888_000_001, 999_000_001), 666_000_001  # of rendered faces
BRUSH, LONGEST = 4.0, 14.0  # px
FULL = "full masks"
WAYS = ("next", "random", "choose")  # first words of policies
Region = npt.NDArray[np.bool_]


def largest_wrong(answer: Mask, truth: Mask) -> tuple[int, Region] | None:
    """Class and pixels of the largest connected region of one class that an answer has wrong."""
    best: tuple[int, int, Region] | None = None
    for label in range(len(LABELS)):
        wrong = ((answer != truth) & (truth == label)).astype(np.uint8)
        _, regions, figures, _ = cv2.connectedComponentsWithStats(wrong, connectivity=4)
        for k, area in enumerate(figures[1:, cv2.CC_STAT_AREA].tolist(), 1):
            if best is None or area > best[0]:
                best = area, label, regions == k
    return best and best[1:]


def line_inside(region: Region, label: int) -> Line:
    """The longest straight line, up to `LONGEST`, through the region's innermost pixel."""
    depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    size = float(np.clip(2 * depth[y, x] - 1, 1, BRUSH))
    centre = np.array([x, y]) + 0.5

    def reach(way: npt.NDArray[np.float64]) -> float:
        for far in np.arange(0.5, LONGEST / 2 + 0.1, 0.5):
            px, py = np.floor(centre + far * way).astype(int)
            inside = 0 <= px < region.shape[1] and 0 <= py < region.shape[0]
            if not inside or depth[py, px] < size / 2:
                return float(far - 0.5)
        return LONGEST / 2

    ways = [np.array([np.cos(a), np.sin(a)]) for a in np.arange(0, np.pi, np.pi / 12)]
    ends = [(reach(-way), reach(way), way) for way in ways]
    back, forth, way = max(ends, key=lambda end: end[0] + end[1])
    return Line(label, size, np.stack([centre - back * way, centre + forth * way]).round(2))


class Person:
    """Draws on samples of the bundled generator, whose true masks are known.

    Args:
        policy: how the next sample is chosen, and how many strokes it gets at most.
        annotator: finished student folder.
    """

    def __init__(self, policy: str, seed: int, annotator: Path) -> None:
        self.way, self.most = policy.split()[0], int(policy.split()[1])
        generator = load_generator(ASSETS / "generator", torch.device("cpu"))
        source = latents_of_seed(generator, FIRST_SEED + seed, 1.0)
        self.candidates = Candidates(generator, source, SAMPLES, None)
        side = generator.resolution
        self.learner = StrokeLearner(
            self.candidates.packing.channels, len(LABELS), side, NOTHING, seed
        )
        while self.candidates.ready < SAMPLES:
            self.candidates.draw_more()
        for pack in self.candidates.packs:
            self.learner.offer(pack)
        truth = load_probabilities(annotator, LABELS, False, torch.device("cpu"))
        images = torch.stack(self.candidates.images).split(50)
        self.truth = torch.cat([truth(part).argmax(1) for part in images]).to(torch.uint8).numpy()
        self.masks = np.full(self.truth.shape, NOTHING, np.uint8)
        self.order: list[int] = []  # samples in the order in which they were begun
        self.strokes_of_class = [0] * len(LABELS)
        self.chance = np.random.default_rng(seed)
        chosen = self.way == "choose"
        self.visits = itertools.count()
        self.chosen = choose_samples(generator, source, range(SAMPLES), 100) if chosen else []

    def draw(self, strokes: int) -> Iterator[int]:
        """Put so many strokes; gives their number after each."""
        sample, on_it, done = self.next(), 0, 0
        while done < strokes:
            # More on the first sample, which shows all classes.
            enough = self.most if len(self.order) > 1 else max(self.most, 12)
            found = largest_wrong(self.answer(sample), self.truth[sample])
            if found is None or on_it >= enough:
                sample, on_it = self.next(sample), 0
                continue
            label, region = found
            line_inside(region, label).put_on(self.masks[sample])
            if sample not in self.order:
                self.order.append(sample)
            self.strokes_of_class[label] += 1
            self.learner.see(sample, self.candidates.packs[sample], self.masks[sample])
            self.learner.learn(STEPS)
            on_it, done = on_it + 1, done + 1
            yield done

    def answer(self, sample: int) -> Mask:
        """What the page shows: the strokes over the answer; nothing before the first stroke."""
        mask = self.masks[sample]
        if self.learner.knows_nothing:
            return mask
        made = self.learner.answer(*self.seen(sample)).classes
        return np.where(mask == NOTHING, made, mask)

    def seen(self, sample: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Features and image of a sample."""
        return self.candidates.packs[sample], self.candidates.images[sample]

    def next(self, sample: int = 0) -> int:
        """The sample that comes next by the policy."""
        if self.way == "random":
            return int(self.chance.integers(SAMPLES))
        if self.way == "choose":
            return self.chosen[next(self.visits) % len(self.chosen)]
        doubts, recent = dict.fromkeys(range(SAMPLES), 1.0), set[int]()
        if not self.learner.knows_nothing:
            answers = {n: self.learner.answer(*self.seen(n)) for n in range(SAMPLES)}
            doubts = {n: doubt_of(answer, self.strokes_of_class) for n, answer in answers.items()}
            recent = {sample, *self.order[-6:]}
        chosen = most_worth(doubts, self.candidates.looks, self.order, recent)
        assert chosen is not None
        return chosen

    def write(self, folder: Path) -> None:
        """The strokes so far as annotated samples."""
        source = artifact_hash(ASSETS / "generator")
        output = AnnotatedFolder(folder, LABELS, self.candidates, source, {})
        output.update(self.order, self.order, lambda n: self.masks[n], sum(self.strokes_of_class))


def train(stages: Iterable[str], run: Path, seed: int, options: Iterable[object]) -> None:
    """Stages of `CONFIG`, one after the other."""
    for stage in stages:
        command = [
            sys.executable, str(ROOT / "train.py"), stage, "--config", str(ROOT / CONFIG),
            "--run.dir", str(run), "--teacher.seed", str(seed), "--student.seed", str(seed),
            "--label.seed", str(1000 + seed), "--student.workers", "0", *map(str, options),
        ]  # fmt: skip
        environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr, env=environment)


def teacher_figures(run: Path) -> dict[str, Any]:
    """mIoU and IoU of a teacher on the annotated samples of `generated`."""
    figures = read_json(run / "teacher/manifest.json")["figures"]["generated"]
    return {"teacher_generated": figures["miou"], "teacher_iou": figures["iou"]}


def student_figures(run: Path) -> dict[str, Any]:
    """mIoU of a student on rendered faces and, of hair and skin, on those of them that have no hair."""
    student = load_probabilities(run / "student", LABELS, False, torch.device("cpu"))

    def matrix(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        found = torch.cat([student(part).argmax(1) for part in images.split(100)])
        return confusion_matrix(masks, found.to(torch.uint8), len(LABELS))

    def miou(seed: int) -> float:
        return iou_figures(matrix(*RenderedFaces(seed, 500, 64).whole()), LABELS.names)["miou"]

    skin, hair = LABELS.names.index("skin"), LABELS.names.index("hair")
    images, masks = RenderedFaces(BALD, 4000, 64).whole()
    bald = (masks != hair).flatten(1).all(1)
    of_bald = matrix(images[bald], masks[bald])
    return {
        "student_held_out": miou(HELD_OUT),
        "student_fresh": [miou(seed) for seed in FRESH],
        "bald_faces": int(bald.sum()),
        "bald_skin_iou": iou_figures(of_bald, LABELS.names)["iou"]["skin"],
        "bald_skin_taken_for_hair": float(of_bald[skin, hair] / of_bald[skin].sum()),
    }


def measure(
    run: Path, seed: int, annotations: Path, about: dict[str, Any], student: bool
) -> dict[str, Any]:
    """A row: teacher of these annotations and perhaps student, and both after a second round."""
    given: list[object] = ["--sources.annotations", annotations]
    if about["policy"] == FULL:
        given += ["--teacher.shots", about["strokes"]]
    train(["teacher"], run, seed, given)
    row = about | {"config": CONFIG} | teacher_figures(run)
    if student:
        train(["label", "student"], run, seed, given)
        row |= student_figures(run)
        second = run / "second"
        given += ["--sources.teacher", run / "teacher", "--sources.student", run / "student"]
        given += ["--label.seed", 101_000 + seed]
        train(["teacher", "label", "student"], second, seed, given)
        row["second_round"] = teacher_figures(second) | student_figures(second)
    return row


def full_masks(options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of whole masks: the first samples that `sample --choose` chose."""
    for count in options.masks:
        yield {"policy": FULL, "seed": seed, "strokes": count, "pixels": count * 64 * 64}


def drawn(options: argparse.Namespace, policy: str, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of strokes by a policy, whose folders of annotated samples are written."""
    person = Person(policy, seed, options.annotator)
    for done in tqdm(
        person.draw(max(options.at)), desc=f"{policy}, seed {seed}", total=max(options.at)
    ):
        if done in options.at:
            person.write(folder_of(options, policy, seed, done) / "annotated")
            pixels = int((person.masks != NOTHING).sum())
            yield {"policy": policy, "seed": seed, "strokes": done, "pixels": pixels}


def folder_of(options: argparse.Namespace, policy: str, seed: int, strokes: int) -> Path:
    """Where a row is made."""
    return options.run / f"{policy.replace(' ', '-')}-{seed}-{strokes}"


def main() -> None:
    """Read the options and make the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON of all rows")
    parser.add_argument("--annotator", type=Path, default=ROOT / "runs/annotator/student")
    parser.add_argument(
        "--policies", nargs="*", default=["next 8", "random 8", "choose 8", "next 1"]
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--at", nargs="*", type=int, default=[15, 30, 60, 100, 200])
    parser.add_argument("--students-at", nargs="*", type=int, default=[60, 200])
    parser.add_argument("--masks", nargs="*", type=int, default=[1, 3, 20])
    options = parser.parse_args()
    if unknown := {policy for policy in options.policies if policy.split()[0] not in WAYS}:
        parser.error(f"--policies {sorted(unknown)}: the first words are {', '.join(WAYS)}")

    made = read_json(options.out) if options.out.exists() else {"rows": [], **machine()}
    for policy in [*options.policies, FULL]:
        for seed in options.seeds:
            ways = full_masks(options, seed) if policy == FULL else drawn(options, policy, seed)
            for row in list(ways):
                key = ("policy", "seed", "strokes")
                if any(all(old[k] == row[k] for k in key) for old in made["rows"]):
                    continue
                run = folder_of(options, policy, seed, row["strokes"])
                whole = policy == FULL
                annotations = ASSETS / "annotated_pool" if whole else run / "annotated"
                student = whole or row["strokes"] in options.students_at
                made["rows"].append(measure(run, seed, annotations, row, student))
                write_json(options.out, made)
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
