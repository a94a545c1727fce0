"""How much memory does it take to fit a teacher? The stage itself, at a real generator's size. Prints JSON.

    python benchmarks/teacher_memory.py --out runs/teacher_memory

A StyleGAN2 config-f of random weights, annotated samples whose masks are rendered faces': the figures are
about memory and time alone. `dense_gib` is what the upsampled, concatenated features of all samples would
take, which systems of this kind keep.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from datasets.faces import render_faces
from datasets.labels import LabelSet, write_mask
from teacher.generators.stylegan2.files import save_generator
from teacher.generators.stylegan2.network import Generator, GeneratorConfig

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (512, 512, 512, 512, 512, 256, 128, 64, 32)


def peak_of(*arguments: object) -> float:
    """Run the command line in a process of its own; its peak memory in GiB."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512, choices=[256, 512, 1024])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--members", type=int, default=1)
    options = parser.parse_args()

    torch.manual_seed(0)
    channels = WIDTHS[: options.size.bit_length() - 2]
    generator = Generator(GeneratorConfig(channels, 512, mapping_layers=8))
    save_generator(generator, options.out / "generator")
    source = ("--generator", options.out / "generator")
    alone = peak_of("sample", *source, "--count", 1, "--out", options.out / "one")
    drawn = options.out / "drawn"
    peak_of("sample", *source, "--count", options.samples, "--out", drawn)
    labels = LabelSet.load(ROOT / "configs/labels/face8.yaml")
    for i in range(options.samples):
        mask = render_faces(3, torch.tensor([i]), options.size)[1][0]
        write_mask(drawn / f"masks/{i:04d}.png", mask.numpy(), labels)
    began = time.monotonic()
    peak = peak_of(
        "teacher", *source, "--sources.annotations", drawn, "--run.dir", options.out / "run",
        "--run.overwrite", "true", "--teacher.epochs", 1, "--teacher.dice_weight", 1,
        "--teacher.fresh_noise", "true", "--teacher.network.channel_dropout", 0.2,
        "--teacher.network.members", options.members,
    )  # fmt: skip
    features = sum(channels for channels, _ in generator.features.values())
    result = {
        "size": options.size,
        "samples": options.samples,
        "members": options.members,
        "channels": features,
        "peak_gib": peak,
        "generator_gib": alone,
        "beside_the_generator_gib": peak - alone,
        "dense_gib": options.samples * features * options.size**2 * 4 / 2**30,
        "seconds_of_one_epoch_and_evaluation": time.monotonic() - began,
        **machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
