"""How fast does a student segment on a CPU, as what, and beside a U-Net? Prints JSON.

    pip install --constraint constraints.txt --editable '.[benchmarks]'
    python benchmarks/inference.py --threads 2 > benchmarks/results/inference.json

Ours and segmentation_models.pytorch's U-Net on the same encoder, both from raw images to label maps and
exported alike by our stage's own functions: eager PyTorch, torch.compile, ONNX Runtime in floats and in
eight bits. The networks work at the images' size, ours with `output_stride` 1 and 2. Weights are random,
which changes no time. All ways take turns of some calls each, of which the first is not counted: the
threads of the way before still spin then. Times are medians. On a GPU, where there is one, eager and
compiled run too. Where other work runs on the machine, `--threads 1 --processor-time` counts the
processor's time alone.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from benchmarks.student import Peer
from datasets.faces import render_faces
from student.base import NetworkConfig
from student.export.deploy import Deployed
from student.export.formats import EXPORT_FORMATS
from student.export.graph import trace
from student.network import build_student

CLASSES = 8
CALLS = 3  # a turn; one more is not counted
LONG = 40  # seconds after which a row has no further round
WAYS = ("eager", "compiled", "onnx_float", "onnx_int8")
Way = Callable[[Tensor], Any]


def networks(config: NetworkConfig) -> dict[str, nn.Module]:
    """Ours, with both strides, and the peer."""
    torch.manual_seed(0)
    made = {
        "ours": build_student(config, CLASSES),
        "ours_stride2": build_student(replace(config, output_stride=2), CLASSES),
        "unet": Peer("Unet", config, CLASSES),
    }
    return {name: network.eval().requires_grad_(False) for name, network in made.items()}


def ways(network: nn.Module, size: int, folder: Path, device: str) -> dict[str, Way]:
    """One network in every form: uint8 images [N, size, size, 3] -> label maps."""
    deployed = Deployed(network, size).eval().to(device)  # type: ignore[arg-type]
    found: dict[str, Way] = {"eager": deployed}
    if why_not_compiled() is None:
        found["compiled"] = torch.compile(deployed)
    if device != "cpu":
        return found
    traced = trace(deployed, calibration=render_faces(1, torch.arange(8), size)[0])
    for way, name in (("onnx_float", "onnx"), ("onnx_int8", "int8")):
        form = EXPORT_FORMATS[name]
        form.write(traced, folder / form.file)
        found[way] = form.run(folder / form.file)
    return found


def why_not_compiled() -> str | None:
    """The reason for leaving torch.compile out."""
    if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++"):
        return None
    return "torch.compile needs a C++ compiler, and there is none"


def milliseconds(
    found: dict[str, Way], images: Tensor, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median time of a call, all ways taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    begun = time.perf_counter()
    for turn in range(rounds + 1):
        if turn > 1 and time.perf_counter() - begun > LONG:
            break
        for name, way in found.items():
            times = [timed(way, images, clock) for _ in range(CALLS + 1)]
            if turn:  # the first one warms up
                taken[name] += times[1:]
    return {name: statistics.median(each) for name, each in taken.items()}


@torch.no_grad()
def timed(way: Way, images: Tensor, clock: Callable[[], float]) -> float:
    """Milliseconds of one call."""
    begun = clock()
    way(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (clock() - begun)


def measure(
    config: NetworkConfig,
    size: int,
    batches: list[int],
    rounds: int,
    device: str,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """A row for every batch size."""
    torch.compiler.reset()  # it gives up on code that it has compiled too often
    rows = []
    with TemporaryDirectory() as path:
        found: dict[str, Way] = {}
        for name, network in networks(config).items():
            folder = Path(path) / name
            folder.mkdir()
            each = ways(network, size, folder, device)
            found |= {f"{name}.{way}": call for way, call in each.items()}
        for batch in batches:
            images = render_faces(2, torch.arange(batch), size)[0].permute(0, 2, 3, 1)
            times = milliseconds(found, images.contiguous().to(device), rounds, clock)
            print(f"{device} {size} px, {batch}: {times}", file=sys.stderr)
            rows.append(row(times, size, batch, device))
    return rows


def row(times: dict[str, float], size: int, batch: int, device: str) -> dict[str, Any]:
    """Times of one size and batch, and the ratios that are claimed."""

    def ratio(slow: str, fast: str) -> float | None:
        return round(times[slow] / times[fast], 2) if {slow, fast} <= times.keys() else None

    found = {
        "device": device, "size": size, "batch": batch,
        "milliseconds": {name: round(value, 2) for name, value in times.items()},
        "images_per_second": {n: round(1000 * batch / value, 1) for n, value in times.items()},
    }  # fmt: skip
    for name in ("ours", "ours_stride2"):
        found[name] = {
            "onnx_vs_eager": ratio(f"{name}.eager", f"{name}.onnx_float"),
            "compiled_vs_eager": ratio(f"{name}.eager", f"{name}.compiled"),
            "int8_vs_float": ratio(f"{name}.onnx_float", f"{name}.onnx_int8"),
            **{f"vs_unet_{way}": ratio(f"unet.{way}", f"{name}.{way}") for way in WAYS},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="regnetx_002")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processor-time", action="store_true", help="not the clock on the wall")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    torch.set_num_threads(options.threads)
    config = NetworkConfig(options.encoder, levels=4, decoder_width=32, detail_channels=16)
    take = partial(measure, config, batches=options.batches, rounds=options.rounds, clock=clock)
    before = os.getloadavg()[0]
    rows = [row for size in options.sizes for row in take(size=size, device="cpu")]
    if torch.cuda.is_available():
        rows += [row for size in options.sizes for row in take(size=size, device="cuda")]
    result = {
        "rows": rows, "encoder": options.encoder, "threads": options.threads,
        "clock": "processor" if options.processor_time else "wall",
        "not_compiled": why_not_compiled(),
        "load_before_and_after": [round(before, 1), round(os.getloadavg()[0], 1)],
        **machine("cuda" if torch.cuda.is_available() else "cpu"),
        "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
