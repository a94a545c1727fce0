"""Does adaptive augmentation let a generator learn from 1,000 photographs? Prints JSON.

    python benchmarks/augmentation.py --network runs/annotator/student --out runs/augmentation

Two generators of the same budget, trained side by side, see 1,000 rendered faces, one with augmentation and
one without. Both are then compared with faces that neither has seen. The same command continues an
interrupted run.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.files import read_json
from common.frechet import feature_moments, frechet_distance
from datasets.faces import render_faces
from student.network import load_embedding
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed

ROOT = Path(__file__).resolve().parent.parent
_SIZE, _CHUNK = 64, 100


def draw_set(folder: Path, count: int) -> None:
    """Render photographs as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, face in enumerate(render_faces(31_000, torch.arange(count), _SIZE)[0]):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="a finished student folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=80_000, help="budget of each training")
    parser.add_argument("--count", type=int, default=2000, help="images of each kind compared")
    options = parser.parse_args()

    photographs = options.out / "photographs"
    if not photographs.exists():
        draw_set(photographs, options.photographs)
    embed = load_embedding(str(options.network), torch.device("cpu"))
    unseen = (
        render_faces(555_000_001, torch.arange(i, i + _CHUNK), _SIZE)[0]
        for i in range(0, options.count, _CHUNK)
    )
    real = feature_moments(embed, unseen)
    variants = {"with": "true", "without": "false"}
    threads = max(1, (os.cpu_count() or 2) // len(variants))
    trainings = [
        subprocess.Popen(
            [
                sys.executable, str(ROOT / "train.py"), "generator",
                "--config", str(ROOT / "configs/faces64.yaml"),
                "--run.dir", str(options.out / name), "--sources.photographs", str(photographs),
                "--generator.images", str(options.images), "--generator.ada", augmented,
                "--generator.ada_images", str(options.images // 2), "--generator.workers", "0",
            ],
            cwd=ROOT, stdout=sys.stderr, env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        for name, augmented in variants.items()
    ]  # fmt: skip
    codes = [training.wait() for training in trainings]
    if any(codes):
        raise SystemExit("a training failed; its message is above")

    figures: dict[str, object] = {}
    for name in variants:
        run = options.out / name
        generator = load_generator(run / "generator")
        latents = latents_of_seed(generator, 1, 1.0)
        parts = [list(range(i, i + _CHUNK)) for i in range(0, options.count, _CHUNK)]
        drawn = (draw(generator, latents, part).images for part in parts)
        rows = [json.loads(r) for r in (run / "generator/metrics.jsonl").read_text().splitlines()]
        figures[name] = {
            "frechet_to_unseen": frechet_distance(feature_moments(embed, drawn), real),
            "score_real_at_end": rows[-1]["score/real"],
            "score_fake_at_end": rows[-1]["score/fake"],
            "strength_at_end": rows[-1].get("augment/p", 0.0),
            "seconds": read_json(run / "generator/manifest.json")["seconds"],
        }
    about = {
        "photographs": options.photographs,
        "images": options.images,
        "torch": torch.__version__,
    }
    print(json.dumps({**figures, **about}, indent=2))


if __name__ == "__main__":
    main()
