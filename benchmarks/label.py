"""What does a labelled image cost? Our first layer, the dense one, the bare generator. Prints JSON.

    python benchmarks/label.py --shape ffhq256
    python benchmarks/label.py --shape demo

Weights are random, shapes real. Every path runs in a process of its own, so that its peak memory is its
own as well; times are medians over rounds in which the paths take turns.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from teacher.fewshot import FewShotCNN, FewShotConfig
from teacher.hypercolumn import HypercolumnConv, upsample
from teacher.stylegan2 import Generator, GeneratorConfig

SHAPES = {
    "ffhq256": GeneratorConfig((512, 512, 512, 512, 512, 256, 128), 512, mapping_layers=8),
    "demo": GeneratorConfig((64, 64, 64, 32, 16), 128, mapping_layers=4),
}
PATHS = ("generator", "dense", "ours", "first_layer_dense", "first_layer_ours")


class DenseFirst(nn.Module):
    """The first layer as an ordinary convolution over the upsampled concatenation."""

    def __init__(self, layer: HypercolumnConv) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        column = upsample(features, self.layer.size, self.layer.mode)
        return nn.functional.conv2d(column, self.layer.weight, self.layer.bias, padding=1)


def build(path: str, shape: str, batch: int, device: torch.device) -> Callable[[], Tensor]:
    """One batch along a path, as a function without arguments."""
    torch.manual_seed(0)
    generator = Generator(SHAPES[shape]).to(device).eval().requires_grad_(False)
    size = generator.config.resolution
    teacher = FewShotCNN(FewShotConfig(), generator.features, size, 8)
    teacher = teacher.to(device).eval().requires_grad_(False)
    if path.endswith("dense"):
        teacher.first = DenseFirst(teacher.first)  # type: ignore[assignment]
    w, noise = torch.randn(batch, generator.config.w_dim, device=device), generator.constant_noise()
    if path.startswith("first_layer"):
        features = generator.synthesis(w, noise)[1]
        return lambda: teacher.first(features)
    if path == "generator":
        return lambda: generator.synthesis(w, noise)[0]
    return lambda: teacher.probabilities(generator.synthesis(w, noise)[1]).argmax(1)


def serve(path: str, shape: str, batch: int, device: torch.device) -> None:
    """A worker: for every line that comes in, run one batch and say how long it took."""
    once = build(path, shape, batch, device)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for _ in sys.stdin:
        begun = time.perf_counter()
        with torch.no_grad():
            once().cpu()
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="ffhq256")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--serve", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.shape, options.batch, torch.device(options.device))
        return

    arguments = [
        "--shape",
        options.shape,
        "--batch",
        str(options.batch),
        "--device",
        options.device,
    ]
    workers = {
        path: subprocess.Popen(
            [sys.executable, __file__, "--serve", path, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
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
        "images_per_second": {p: options.batch / seconds[p] for p in PATHS},
        "peak_megabytes": {p: peak[p] / 2**20 for p in PATHS},
        "first_layer_speedup": seconds["first_layer_dense"] / seconds["first_layer_ours"],
        "speedup_vs_dense": seconds["dense"] / seconds["ours"],
        "fraction_of_generator": seconds["generator"] / seconds["ours"],
        "memory_vs_dense": peak["ours"] / peak["dense"],
        "batch": options.batch,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        if options.device == "cpu"
        else torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
