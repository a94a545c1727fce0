"""What does a GPU take for the whole chain at full size, and a student for a step? Prints JSON.

    python benchmarks/gpu.py --out runs/gpu                    # on a GPU
    python benchmarks/gpu.py --out runs/gpu_small --small      # does it run? minutes of a CPU

`chain` is `train.py distill` with configs/ffhq256.yaml on a generator of random weights, its masks rendered
faces', 10,000 pseudo-labels and 1,000 steps of a student without ImageNet's weights: the seconds of every
stage, and the images per second of the stages `label` and `student`. `student` is a step alone, on one
batch that lies on the device: in 32-bit floats, in bf16, and compiled. Weights and images change no time.
The same command skips the stages that are done.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.label import FACES, SHAPES
from benchmarks.machine import machine
from common.files import read_json, write_json
from datasets.faces import render_faces
from datasets.labels import write_mask
from datasets.transforms import Sample
from student.learner import StudentLearner
from student.network import build_student
from student.recipe import StudentStage
from teacher.generators.stylegan2.files import save_generator
from teacher.generators.stylegan2.network import Generator
from train import build_parser

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("teacher", "label", "student", "export", "labels_alone", "compare")
COUNT, STEPS = 10_000, 1_000  # pseudo-labels, and the student's steps on them
WARM_UP, TIMED = 5, 50  # steps of the student alone


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]


def prepare(out: Path, shape: str) -> Path:
    """A generator of random weights, annotated samples of it, and a config; gives the config."""
    path = out / "config.yaml"
    if path.exists():  # written last
        return path
    torch.manual_seed(0)
    save_generator(Generator(SHAPES[shape]), out / "generator")
    size = SHAPES[shape].resolution
    for name, seed, samples in (("train", 0, 3), ("test", 1, 8)):
        subprocess.run(
            command(
                "sample", "--generator", out / "generator", "--count", samples, "--seed", seed,
                "--out", out / name,
            ),
            stdout=sys.stderr, check=True,
        )  # fmt: skip
        masks = render_faces(seed, torch.arange(samples), size)[1]
        for i, mask in enumerate(masks):
            write_mask(out / name / f"masks/{i:04d}.png", mask.numpy(), FACES)

    config = yaml.safe_load((ROOT / "configs/ffhq256.yaml").read_text(encoding="utf-8"))
    config["sources"] = {
        "labels": str(ROOT / config["sources"]["labels"]),
        "generator": str(out / "generator"),
        "annotations": str(out / "train"),
        "test_annotations": str(out / "test"),
    }
    config["run"] = {"dir": str(out / "run")}
    config["label"]["count"] = COUNT
    config["student"] |= {"steps": STEPS, "val_every": STEPS}
    config["student"]["network"]["pretrained"] = False
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def run_chain(out: Path, config: Path, small: bool, device: str) -> dict[str, Any]:
    """Seconds of every stage, and images per second of those that make or see many."""
    environment = os.environ | {"ACCELERATE_USE_CPU": str(device == "cpu").lower()}
    subprocess.run(
        command("distill", "--config", config, *["--smoke"] * small),
        stdout=sys.stderr, check=True, env=environment,
    )  # fmt: skip
    done = {stage: read_json(out / "run" / stage / "manifest.json") for stage in STAGES}
    seconds = {stage: round(manifest["seconds"], 1) for stage, manifest in done.items()}
    label, student = (done[stage]["config"] for stage in ("label", "student"))
    seen = student["recipe"]["steps"] * student["recipe"]["batch_size"]
    return {
        "seconds": seconds | {"together": round(sum(seconds.values()), 1)},
        "label_images_per_second": label["count"] / done["label"]["seconds"],
        "student_images_per_second": seen / done["student"]["seconds"],
    }


def student_speeds(recipe: StudentStage, size: int, device: str) -> dict[str, float]:
    """Images per second of steps alone, by precision and compiled."""
    ways: dict[str, tuple[Literal["no", "bf16"], bool]] = {
        "float32": ("no", False), "bf16": ("bf16", False), "bf16_compiled": ("bf16", True),
    }  # fmt: skip
    speeds = {}
    for name, (precision, compiled) in ways.items():
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        way = replace(recipe, precision=precision, compile=compiled)
        learner = StudentLearner(way, FACES, accelerator, build_student)
        batch = random_batch(recipe.batch_size, size, accelerator.device)
        for step in range(WARM_UP + TIMED):
            if step == WARM_UP:
                begun = time.perf_counter()
            loss, _ = learner.step(step, batch)
            loss.item()  # waits for the device
        speeds[name] = recipe.batch_size * TIMED / (time.perf_counter() - begun)
    return speeds


def random_batch(count: int, size: int, device: torch.device) -> Sample:
    """Images and labels without meaning, on the device."""
    batch = Sample(
        torch.randint(256, (count, 3, size, size), dtype=torch.uint8),
        torch.randint(len(FACES), (count, size, size)),
        torch.ones(count, size, size),
        torch.empty(count, 0, size, size, dtype=torch.uint8),
        torch.arange(count),
        torch.empty(count, 0),
        torch.empty(count, 0),
    )
    return Sample(*(column.to(device) for column in batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the run")
    parser.add_argument(
        "--small", action="store_true", help="the demo's generator, and stages of some seconds"
    )
    options = parser.parse_args()
    shape = "demo" if options.small else "ffhq256"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = options.out.resolve()
    config = prepare(out, shape)
    chain = run_chain(out, config, options.small, device)

    parsed = build_parser().parse_args(["student", "--config", str(config)])
    recipe = build_parser().instantiate(parsed)["student"]["student"]
    student = student_speeds(recipe, SHAPES[shape].resolution, device)
    result = {
        "shape": shape,
        "chain": chain,
        "student_images_per_second": student,
        "bf16_of_float32": student["bf16"] / student["float32"],
        "compiled_of_bf16": student["bf16_compiled"] / student["bf16"],
        **machine(device),
    }
    write_json(out / "result.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
