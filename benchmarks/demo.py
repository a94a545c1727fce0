"""How long do the demo's stages take, and what of that is forward and backward passes? Prints JSON.

    python benchmarks/demo.py --out runs/demo_times           # on an idle machine
    python benchmarks/demo.py --out runs/demo_busy --busy     # beside a process that takes half of a core
    python benchmarks/demo.py --out runs/older --checkout ../older    # another version's train.py

Every stage runs as a process of its own. After it, its floor: a bare loop of the same forward and
backward passes on as many threads, a few seconds of it taken for the whole.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from common.files import read_json
from common.processors import usable_cores
from common.stage_folder import artifact_hash
from datasets.annotations import ANNOTATIONS, read_annotated, read_samples
from datasets.labels import LabelSet
from evaluation.references import recipe_for_few, recipe_of
from pipeline.config import Config
from student.network import build_student
from student.recipe import StudentStage, mixed_precision
from teacher.fewshot import FewShotCNN
from teacher.generators.base import channels_of, to_device, with_fresh_noise
from teacher.generators.inversion_encoder import InversionEncoder
from teacher.generators.inversion_encoder_training import draw_batch
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from train import build_parser

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("teacher", "label", "student", "export", "inversion_encoder", "labels_alone", "compare")
_PASSES = 12  # of a bare loop, after two that warm up
_CPU = torch.device("cpu")

Floor = Callable[[Config], float]  # seconds of all of a stage's forward and backward passes


def mean_seconds(once: Callable[[], Any]) -> float:
    """Mean seconds of a pass in a bare loop."""
    for _ in range(2):
        once()
    begun = time.perf_counter()
    for _ in range(_PASSES):
        once()
    return (time.perf_counter() - begun) / _PASSES


def teacher_floor(config: Config) -> float:
    """Fresh features of a sample, the teacher on them and back, for every step."""
    generator, labels = load_generator(need(config.sources.generator), _CPU), label_set(config)
    source = artifact_hash(need(config.sources.generator))
    samples, masks = read_annotated(
        need(config.sources.annotation_folders.get(ANNOTATIONS)), labels, source
    )
    network = FewShotCNN(
        config.teacher.network, channels_of(generator), generator.resolution, len(labels)
    )

    def once() -> None:
        with torch.no_grad():
            latents = with_fresh_noise(to_device(samples.take([0]).latents, _CPU))
            features = generator.synthesise(latents)[1]
        F.cross_entropy(network(features)[:, 0], masks[:1].long()).backward()

    return mean_seconds(once) * config.teacher.epochs * len(samples)


def label_floor(config: Config) -> float:
    """Samples and their logits, in batches."""
    generator, labels = load_generator(need(config.sources.generator), _CPU), label_set(config)
    network = FewShotCNN(
        config.teacher.network, channels_of(generator), generator.resolution, len(labels)
    ).eval()
    latents, batch = latents_of_seed(generator, 0, 1.0)([*range(8)]), 8

    @torch.no_grad()
    def once() -> None:
        network(generator.synthesise(latents)[1])

    return mean_seconds(once) * config.label.count / batch


def student_floor(config: Config) -> float:
    """The passes of all steps."""
    return training_floor(config, config.student)


def labels_alone_floor(config: Config) -> float:
    """The same on the annotated samples, in smaller batches."""
    samples, _ = read_samples(need(config.sources.annotation_folders.get(ANNOTATIONS)))
    recipe = recipe_for_few(recipe_of(config.student), len(samples), processes=1)
    return training_floor(config, recipe)


def training_floor(config: Config, recipe: StudentStage) -> float:
    """Forward and backward passes of all steps of a student, and forward passes of its average.

    Steps at half the size come first, and the average is asked after them.
    """
    side = load_generator(need(config.sources.generator), _CPU).resolution
    network = build_student(recipe.network, len(label_set(config)))
    network.to(memory_format=torch.channels_last)
    bf16 = mixed_precision(recipe) == "bf16"

    def pass_at(size: int, batch: int, backward: bool) -> Callable[[], None]:
        images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)
        images = images.to(memory_format=torch.channels_last)
        target = torch.zeros(batch, size, size, dtype=torch.int64)

        def once() -> None:
            with (
                torch.set_grad_enabled(backward),
                torch.autocast("cpu", torch.bfloat16, enabled=bf16),
            ):
                logits = network(images)
            if backward:
                F.cross_entropy(logits.float(), target).backward()

        return once

    def of_steps(count: int, size: int, batch: int, backward: bool = True) -> float:
        return count * mean_seconds(pass_at(size, batch, backward)) if count > 0 else 0.0

    own, few = recipe.own_answer, recipe.batch_size
    halved = round(recipe.half_size_share * recipe.steps)
    asked = max(0, recipe.steps - own.after) if own.is_asked else 0
    many = few + own.beside
    seconds = of_steps(halved, side // 2, few) + of_steps(recipe.steps - halved - asked, side, few)
    return seconds + of_steps(asked, side, many) + of_steps(asked, side, many, backward=False)


def inversion_encoder_floor(config: Config) -> float:
    """Fresh samples, the encoder on them and back, for every step."""
    recipe, generator = (
        config.inversion_encoder,
        load_generator(need(config.sources.generator), _CPU),
    )
    codes = draw_batch(generator, 2, 0, 0).codes
    encoder = InversionEncoder(recipe.backbone, generator.resolution, codes[0], codes[0], False)
    encoder.to(memory_format=torch.channels_last)

    def once() -> None:
        images = draw_batch(generator, recipe.batch_size, 0, 0).images
        encoder(images.to(memory_format=torch.channels_last)).sum().backward()

    return mean_seconds(once) * (recipe.images // recipe.batch_size)


FLOORS: dict[str, Floor] = {
    "teacher": teacher_floor,
    "label": label_floor,
    "student": student_floor,
    "inversion_encoder": inversion_encoder_floor,
    "labels_alone": labels_alone_floor,
}


def need(path: Path | None) -> Path:
    assert path is not None
    return ROOT / path


def label_set(config: Config) -> LabelSet:
    return LabelSet.load(ROOT / config.sources.labels)


def run_stage(stage: str, out: Path, checkout: Path) -> dict[str, float]:
    """Run a stage; its seconds, those of the whole process, and the share of the cores that was busy."""
    command = [sys.executable, "train.py", stage, "--config", "configs/demo.yaml"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, "--run.dir", str(out)],
        cwd=checkout, stdout=sys.stderr, check=True, env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": read_json(out / stage / "manifest.json")["seconds"],
        "process_seconds": round(seconds, 1),
        "busy_share_of_cores": round(used / seconds / usable_cores(), 2),
    }


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that takes half of one core."""
    code = (
        "import time\n"
        "while True:\n"
        "    end = time.perf_counter() + 0.005\n"
        "    while time.perf_counter() < end: pass\n"
        "    time.sleep(0.005)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the run")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument(
        "--busy", action="store_true", help="beside a process that takes half a core"
    )
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="whose train.py runs the stages"
    )
    options = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    torch.set_num_threads(usable_cores())
    demo = build_parser()
    parsed = demo.parse_args(["distill", "--config", str(ROOT / "configs/demo.yaml")])
    values = demo.instantiate(parsed)["distill"]
    config = Config(**{f.name: values[f.name] for f in dataclasses.fields(Config)})

    rows: dict[str, dict[str, float]] = {}
    for stage in options.stages:
        with neighbour() if options.busy else nullcontext():
            rows[stage] = run_stage(stage, options.out.resolve(), options.checkout)
        if stage in FLOORS:
            floor = FLOORS[stage](config)
            rows[stage] |= {
                "floor_seconds": round(floor, 1),
                "ratio_to_floor": round(rows[stage]["seconds"] / floor, 2),
            }
    result = {
        "stages": rows,
        "seconds": round(sum(row["process_seconds"] for row in rows.values()), 1),
        "busy": options.busy,
        **machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
