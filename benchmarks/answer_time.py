"""How long does a person wait for the answer to a stroke? Prints JSON.

    python benchmarks/answer_time.py --shape demo
    python benchmarks/answer_time.py --shape ffhq256 --samples 20

A session draws samples of a generator with random weights and real shape. Strokes follow each other on one
sample, while the page shows it and sixteen others; the time is from the call that takes a stroke to the
answer for this sample.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.label import FACES, SHAPES
from benchmarks.machine import machine
from teacher.generators.sampling import latents_of_seed
from teacher.generators.stylegan2.network import Generator
from teacher.page.candidates import Candidates
from teacher.page.journal import FILE, Journal
from teacher.page.output import FOLDER, AnnotatedFolder
from teacher.page.session import Session

_SHOWN = 17  # samples on the page


def line(number: int, side: int) -> dict[str, Any]:
    """A stroke: a short line of one class after the other, from the top down."""
    y = side * (0.1 + 0.8 * (number * 0.37 % 1))
    points = [[0.3 * side, y], [0.5 * side, y]]
    return {"kind": "line", "class": number % len(FACES), "size": side / 20, "points": points}


def measure(shape: str, samples: int, strokes: int, memory: int | None) -> dict[str, Any]:
    """Seconds until the answer to each stroke."""
    torch.manual_seed(0)
    generator = Generator(SHAPES[shape]).eval().requires_grad_(False)
    side = generator.resolution
    events = Queue[dict[str, Any]]()
    with (
        TemporaryDirectory() as folder,
        Journal(Path(folder), {}, samples, side, len(FACES)) as journal,
    ):
        source = latents_of_seed(generator, 0, 1.0)
        candidates = Candidates(generator, source, samples, memory)
        output = AnnotatedFolder(Path(folder) / FOLDER, FACES, candidates, "", {})
        session = Session(candidates, journal, output, FACES)
        session.subscribe(events.put)
        session.start()
        while events.get().get("samples") != samples:
            pass
        session.wanted(range(min(_SHOWN, samples)))
        seconds = []
        for number in range(strokes):
            while not events.empty():
                events.get()
            begun = time.perf_counter()
            session.add(0, line(number, side))
            while (told := events.get())["event"] != "answer" or 0 not in told["samples"]:
                assert told["event"] != "problem", told
            seconds.append(time.perf_counter() - begun)
            time.sleep(1)  # somebody looks at it
        bytes_on_disk = (Path(folder) / FILE).stat().st_size
        session.end()
    return {
        "shape": shape,
        "samples": samples,
        "features": candidates.packing.told,
        "feature_bytes_of_a_sample": sum(2 * f[0].numel() for f in candidates.packs[0]),
        "journal_bytes": bytes_on_disk,
        "seconds": [round(s, 3) for s in seconds],
        "median": round(statistics.median(seconds), 3),
        "largest": round(max(seconds), 3),
    }


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="demo")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--strokes", type=int, default=20)
    parser.add_argument("--memory", type=float, help="GiB for the features of all samples")
    options = parser.parse_args()
    memory = int(options.memory * 2**30) if options.memory else None
    figures = measure(options.shape, options.samples, options.strokes, memory)
    print(json.dumps(figures | machine(), indent=2))


if __name__ == "__main__":
    main()
