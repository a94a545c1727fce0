"""Draw rendered faces into a folder: `images`, and exact `masks` with the same names.

    python benchmarks/draw_faces.py --world street --seed 1 --count 900 --out runs/street/photographs
    python benchmarks/draw_faces.py --world street --seed 2 --count 500 --out runs/street/test

The world `street` stands for photographs that a user brings: nothing bundled has seen it. The folder of
images is for `sources.photographs`; both together are a test set.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.faces import render_faces
from datasets.labels import LabelSet, write_mask
from datasets.portrait.world import WORLDS

_CHUNK = 100


def main() -> None:
    """Read the options and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=sorted(WORLDS), default="street")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--labels", type=Path, default=Path("configs/labels/face8.yaml"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    labels = LabelSet.load(options.labels)
    images, masks = options.out / "images", options.out / "masks"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for chunk in tqdm(torch.arange(options.count).split(_CHUNK), desc=options.world):
        drawn = render_faces(options.seed, chunk, options.resolution, WORLDS[options.world])
        for number, image, mask in zip(chunk.tolist(), *drawn, strict=True):
            name = f"{number:05}.png"
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(images / name)
            write_mask(masks / name, mask.numpy(), labels)


if __name__ == "__main__":
    main()
