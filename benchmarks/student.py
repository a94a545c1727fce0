"""How fast does a student train and segment, beside networks that people know? Prints JSON.

    pip install --constraint constraints.txt --editable '.[benchmarks]'
    python benchmarks/student.py --labels runs/demo/label              # speeds
    python benchmarks/student.py --labels runs/demo/label --seeds 3    # mIoU after training

On the demo's images: training by the data alone, by the network alone, by both, in one process and in
two; then our decoder beside segmentation_models.pytorch's U-Net and FPN on the same encoder: a step of
training, images segmented one at a time, and the mIoU on rendered faces after the demo's training.
Networks take turns at the times, which are medians; the trainings run side by side, a core each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from common.confusion import predicted_miou
from common.stage_folder import StageFolder
from datasets.batches import EndlessBatches
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.transforms import Augmented, Sample
from student.base import Build, NetworkConfig
from student.data import Part, batches, split_validation
from student.fit import train_network
from student.learner import StudentLearner
from student.network import WEIGHTS, build_student, predictor
from student.recipe import StudentStage, mixed_precision
from train import build_parser

ROOT = Path(__file__).resolve().parent.parent
LABELS = LabelSet.load(ROOT / "configs/labels/face8.yaml")
WARM_UP = 3


class Peer(nn.Module):
    """A network of segmentation_models.pytorch as it is by default, given images as ours."""

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.config = config
        self.network = getattr(smp, kind)(
            f"tu-{config.encoder}", encoder_weights=None, classes=classes
        )
        about = timm.get_pretrained_cfg(config.encoder)
        assert about is not None
        for name, value in (("mean", about.mean), ("std", about.std)):
            self.register_buffer(name, 255 * torch.tensor(value).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images.float() - self.mean) / self.std)


NETWORKS: dict[str, Build] = {
    "ours": build_student,
    "unet": lambda config, classes: Peer("Unet", config, classes),
    "fpn": lambda config, classes: Peer("FPN", config, classes),
}


@dataclass(frozen=True)
class Setup:
    """The demo's recipe and images."""

    recipe: StudentStage
    training: Part
    validation: Part

    @staticmethod
    def load(labels: Path) -> "Setup":
        parsed = build_parser().parse_args(["student", "--config", str(ROOT / "configs/demo.yaml")])
        recipe = build_parser().instantiate(parsed)["student"]["student"]
        source = PseudoLabels(labels)
        return Setup(recipe, *split_validation(source, recipe.val_images))

    def stream(self, steps: int, accelerator: Accelerator) -> Iterator[Sample]:
        """This process's share of the first batches, as in training."""
        recipe = self.recipe
        augmented = Augmented(self.training, recipe.augmentation, LABELS.ignore_index, recipe.seed)
        order = EndlessBatches(
            len(self.training), recipe.batch_size, 0, steps, recipe.seed,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip
        return batches(augmented, order, recipe.workers)


def per_second(rounds: Iterator[Any], images: int) -> float:
    """Images per second over the rounds, without the first few."""
    times = []
    for i, _ in enumerate(rounds):
        times.append(time.perf_counter())
        if i == WARM_UP:
            times = times[-1:]
    return images * (len(times) - 1) / (times[-1] - times[0])


def training_speed(setup: Setup, steps: int) -> dict[str, float]:
    """Images per second of the whole run: the data, the network, both; call on all ranks."""
    accelerator = Accelerator(mixed_precision=mixed_precision(setup.recipe))
    learner = StudentLearner(setup.recipe, LABELS, accelerator, build_student)
    batch, images = next(setup.stream(1, accelerator)), setup.recipe.batch_size
    stream = setup.stream(steps, accelerator)
    return {
        "data": per_second(setup.stream(steps, accelerator), images),
        "network": per_second((learner.step(i, batch) for i in range(steps)), images),
        "together": per_second((learner.step(i, one) for i, one in enumerate(stream)), images),
    }


def trained(jobs: list[tuple[str, int]], arguments: list[str]) -> dict[tuple[str, int], float]:
    """`held_out_miou` of networks and seeds, each in a process of its own, a core each."""
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}

    def one(job: tuple[str, int]) -> float:
        command = [sys.executable, __file__, *arguments, "--train-alone", *map(str, job)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
        return float(done.stdout.strip().splitlines()[-1])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(jobs, pool.map(one, jobs), strict=True))


def in_processes(count: int, arguments: list[str]) -> dict[str, float]:
    """`training_speed` in so many processes, the cores shared out among them."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes", str(count)]
    launch += ["--multi_gpu"] if count > 1 else []
    threads = str(max(1, (os.cpu_count() or 1) // count))
    done = subprocess.run(
        [*launch, __file__, *arguments, "--speed-alone"], stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": threads},
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def side_by_side(setup: Setup, rounds: int) -> dict[str, dict[str, float]]:
    """A step of training and an image segmented, the networks taking turns."""
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision(setup.recipe))
    batch = next(setup.stream(1, accelerator))
    learners = {
        n: StudentLearner(setup.recipe, LABELS, accelerator, b) for n, b in NETWORKS.items()
    }
    seconds: dict[str, dict[str, list[float]]] = {n: {"train": [], "segment": []} for n in NETWORKS}
    for i in range(rounds + WARM_UP):
        for name, learner in learners.items():
            begun = time.perf_counter()
            learner.step(i, batch)
            seconds[name]["train"].append(time.perf_counter() - begun)
        for name, learner in learners.items():
            network, one = learner.network.eval(), batch.image[:1]
            with torch.no_grad():
                network(one)
                begun = time.perf_counter()
                for _ in range(10):
                    network(one)
            seconds[name]["segment"].append((time.perf_counter() - begun) / 10)
    rows = {}
    for name, taken in seconds.items():
        train, segment = (statistics.median(taken[key][WARM_UP:]) for key in ("train", "segment"))
        rows[name] = {
            "parameters": sum(p.numel() for p in learners[name].network.parameters()),
            "training_images_per_second": setup.recipe.batch_size / train,
            "milliseconds_per_image": 1000 * segment,
        }
    return rows


def held_out_miou(setup: Setup, name: str, seed: int, count: int = 500) -> float:
    """mIoU of a network on rendered faces after the demo's training."""
    recipe = replace(setup.recipe, seed=seed)
    with TemporaryDirectory() as path:
        folder = StageFolder(Path(path) / "student", "student", recipe, {})
        folder.begin()
        train_network(
            recipe, LABELS, setup.training, setup.validation, folder, build=NETWORKS[name]
        )
        network = NETWORKS[name](recipe.network, len(LABELS)).eval()
        network.load_state_dict(load_file(folder.path / WEIGHTS))
    faces = RenderedFaces(777_000_001, count, setup.validation[0].image.shape[-1])
    return predicted_miou(predictor(network), *faces.whole(), len(LABELS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, default=ROOT / "runs/demo/label")
    parser.add_argument("--steps", type=int, default=40, help="of each speed of training")
    parser.add_argument("--rounds", type=int, default=15, help="of the networks side by side")
    parser.add_argument(
        "--seeds", type=int, default=0, help="trainings of each network; 0 for the speeds"
    )
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="that are trained"
    )
    parser.add_argument("--speed-alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--train-alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    setup = Setup.load(options.labels)
    if options.train_alone:
        name, seed = options.train_alone
        print(held_out_miou(setup, name, int(seed)))
        return
    if options.speed_alone:
        speed = training_speed(setup, options.steps)
        if Accelerator().is_main_process:
            print(json.dumps(speed))
        return

    about = {
        "encoder": setup.recipe.network.encoder,
        "precision_of_training": mixed_precision(setup.recipe),
        **machine(),
    }
    arguments = ["--labels", str(options.labels), "--steps", str(options.steps)]
    measured = (
        after_training(options.networks, options.seeds, arguments)
        if options.seeds
        else speeds(setup, options.rounds, arguments)
    )
    print(json.dumps({**measured, **about}, indent=2))


def speeds(setup: Setup, rounds: int, arguments: list[str]) -> dict[str, Any]:
    """Of training in one process and two, and of the networks side by side."""
    one, two = (in_processes(count, arguments) for count in (1, 2))
    networks = side_by_side(setup, rounds)
    ours = networks["ours"]["milliseconds_per_image"]
    return {
        "training_images_per_second": {"one_process": one, "two_processes": two},
        "data_of_network": one["data"] / one["network"],
        "two_processes_of_one": two["together"] / one["together"],
        "networks": networks,
        "inference_speedup_vs": {
            name: row["milliseconds_per_image"] / ours
            for name, row in networks.items()
            if name != "ours"
        },
    }


def after_training(names: list[str], seeds: int, arguments: list[str]) -> dict[str, Any]:
    """mIoU of these networks on rendered faces over so many trainings."""
    jobs = [(name, seed) for seed in range(seeds) for name in names]
    reached = trained(jobs, arguments)
    rows = {name: [reached[name, seed] for seed in range(seeds)] for name in names}
    return {
        "held_out_miou": {
            name: {"mean": statistics.mean(each), "each": each} for name, each in rows.items()
        }
    }


if __name__ == "__main__":
    main()
