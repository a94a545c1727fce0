"""What does a labelled image cost? Our first layer, the dense one, the bare generator. Prints JSON.

`line` is the whole production line of the stage `label`, with PNG files and shards on the disk.

    python benchmarks/label.py --shape ffhq256
    python benchmarks/label.py --shape demo --batch 8

Weights are random, shapes real. Every path runs in a process of its own, so that its peak memory is its
own as well; times are medians over rounds in which the paths take turns.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from datasets.labels import LabelSet
from teacher.fewshot import FewShotCNN, FewShotConfig
from teacher.generators.base import channels_of
from teacher.generators.stylegan2.network import Generator, GeneratorConfig
from teacher.hypercolumn import HypercolumnConv, upsample
from teacher.label import produce
from teacher.labeller import Labeller, LabelStage

SHAPES = {
    "ffhq256": GeneratorConfig((512, 512, 512, 512, 512, 256, 128), 512, mapping_layers=8),
    "demo": GeneratorConfig((64, 64, 64, 32, 16), 128, mapping_layers=4),
}
FACES = LabelSet.load(Path(__file__).parent.parent / "configs/labels/face8.yaml")
PATHS = ("generator", "dense", "ours", "line", "first_layer_dense", "first_layer_ours")
_LINE = 8  # batches that the line makes in a round


class DenseFirst(nn.Module):
    """The first layer as an ordinary convolution over the upsampled concatenation."""

    def __init__(self, layer: HypercolumnConv) -> None:
        super().__init__()
        self.layer, self.size = layer, layer.size

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        column = upsample(features, self.layer.size, self.layer.mode)
        return nn.functional.conv2d(column, self.layer.weight, self.layer.bias, padding=1)


@dataclass(frozen=True)
class Job:
    """What a worker is to run: a path at a shape, batch by batch."""

    path: str
    shape: str
    batch: int
    device: str
    precision: Literal["no", "bf16"]

    def build(self) -> tuple[Callable[[], object], int]:
        """One round along the path, as a function, and the images it makes."""
        torch.manual_seed(0)
        generator = Generator(SHAPES[self.shape]).to(self.device).eval().requires_grad_(False)
        size = generator.config.resolution
        teacher = FewShotCNN(FewShotConfig(), channels_of(generator), size, len(FACES))
        teacher = teacher.to(self.device).eval().requires_grad_(False)
        if self.path.endswith("dense"):
            teacher.first = DenseFirst(teacher.first)  # type: ignore[assignment]
        w = torch.randn(self.batch, generator.config.w_dim, device=self.device)
        noise, images = generator.constant_noise(), _LINE * self.batch
        if self.path == "line":
            config = LabelStage(
                images, shard_size=images, batch_size=self.batch, precision=self.precision
            )
            labeller = Labeller(config, generator, teacher, FACES)
            return lambda: write_one_shard(labeller), images
        if self.path.startswith("first_layer"):
            features = generator.synthesis(w, noise)[1]
            return lambda: teacher.first(features).cpu(), self.batch
        if self.path == "generator":
            return lambda: generator.synthesis(w, noise)[0].cpu(), self.batch

        def label() -> object:
            images, features = generator.synthesis(w, noise)
            return teacher.probabilities(features, images).argmax(1).cpu()

        return label, self.batch

    @torch.no_grad()
    def serve(self) -> None:
        """For every line that comes in, run one round and say what an image took."""
        autocast = torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"
        )
        with autocast:
            once, images = self.build()
            start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            for _ in sys.stdin:
                begun = time.perf_counter()
                once()
                seconds = (time.perf_counter() - begun) / images
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start
                if self.device != "cpu":
                    peak = torch.cuda.max_memory_allocated()
                print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def write_one_shard(labeller: Labeller) -> None:
    with TemporaryDirectory() as folder:
        produce(labeller, [0], Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="ffhq256")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--serve", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    what = (options.shape, options.batch, options.device, options.precision)
    if options.serve:
        Job(options.serve, *what).serve()
        return

    workers = {
        path: subprocess.Popen(
            [sys.executable, *sys.argv, "--serve", path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for path in PATHS
    }  # fmt: skip
    rows: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
    for _ in range(options.rounds + 1):
        for path, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("once\n")
            worker.stdin.flush()
            rows[path].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()

    # The first round warms up.
    seconds = {p: statistics.median(r["seconds"] for r in rows[p][1:]) for p in PATHS}
    peak = {p: max(r["peak_bytes"] for r in rows[p]) for p in PATHS}
    result = {
        "shape": options.shape,
        "images_per_second": {p: 1 / seconds[p] for p in PATHS},
        "peak_megabytes": {p: peak[p] / 2**20 for p in PATHS},
        "first_layer_speedup": seconds["first_layer_dense"] / seconds["first_layer_ours"],
        "speedup_vs_dense": seconds["dense"] / seconds["ours"],
        "fraction_of_generator": seconds["generator"] / seconds["ours"],
        "line_of_ours": seconds["ours"] / seconds["line"],
        "memory_vs_dense": peak["ours"] / peak["dense"],
        "batch": options.batch,
        "precision": options.precision,
        **machine(options.device),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
