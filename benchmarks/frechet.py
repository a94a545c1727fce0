"""How far are a generator's faces from rendered ones? Prints JSON.

    python benchmarks/frechet.py --generator assets/faces64/generator --network runs/annotator/student

Beside the distance stands the one between two sets of rendered faces of the same size: the floor.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.files import read_json
from common.frechet import feature_moments, frechet_distance
from common.stage_folder import artifact_hash
from datasets.faces import render_faces
from student.network import load_embedding
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed

_CHUNK = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True, help="a finished student folder")
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    embed = load_embedding(str(options.network), torch.device("cpu"))
    about = read_json(options.network / "student.json")
    generator = load_generator(options.generator)
    size = generator.resolution
    latents = latents_of_seed(generator, 1, 1.0)

    def rendered(seed: int) -> Iterator[Tensor]:
        for start in range(0, options.count, _CHUNK):
            yield render_faces(seed, torch.arange(start, start + _CHUNK), size)[0]

    def generated() -> Iterator[Tensor]:
        for start in range(0, options.count, _CHUNK):
            yield draw(generator, latents, list(range(start, start + _CHUNK))).images

    real = feature_moments(embed, rendered(555_000_001))
    figures = {
        "generated_vs_rendered": frechet_distance(feature_moments(embed, generated()), real),
        "rendered_vs_rendered": frechet_distance(
            feature_moments(embed, rendered(555_000_002)), real
        ),
        "images": options.count,
        "network": f"{about['network']['embedr']}, trained by configs/annotator.yaml",
        "network_hash": artifact_hash(options.network)[:12],
        "generator_hash": artifact_hash(options.generator)[:12],
        "torch": torch.__version__,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
