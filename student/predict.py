"""Segment pictures with an exported student: `python -m student.predict --model M PICTURES --out D`.

Needs onnxruntime, numpy, Pillow and tqdm; neither torch nor timm is loaded.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

Array = npt.NDArray[np.uint8]


class Predictor:
    """An exported student.

    Args:
        model: `student.onnx`, with `labels.json` beside it.
    """

    def __init__(self, model: Path) -> None:
        about = json.loads((model.parent / "labels.json").read_text())
        self.names: list[str] = about["names"]
        self.colours = np.array(about["colours"], np.uint8)
        self.size: int = about["resolution"]
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def __call__(self, picture: Image.Image) -> Array:
        """Label map [H, W] of a picture of any size, at that size."""
        small = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        (labels,) = self.session.run(None, {"pictures": np.asarray(small)[None]})
        mask = Image.fromarray(labels[0])
        return np.asarray(mask.resize(picture.size, Image.Resampling.NEAREST))

    def save(self, mask: Array, path: Path) -> None:
        """Write a palette PNG."""
        image = Image.fromarray(mask)
        image.putpalette(self.colours.flatten().tolist())
        image.save(path)

    def overlay(self, picture: Image.Image, mask: Array) -> Image.Image:
        """The picture with its parts tinted; background stays as it is."""
        base = np.asarray(picture.convert("RGB"), np.float32)
        tinted = 0.5 * base + 0.5 * self.colours[mask]
        shown = np.where(mask[..., None] == 0, base, tinted)
        return Image.fromarray(shown.astype(np.uint8))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m student.predict", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path, help="picture files, or folders of them")
    parser.add_argument(
        "--model", type=Path, required=True, help="student.onnx of the stage export"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--overlay", action="store_true", help="write tinted pictures as well")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor(options.model)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        print(
            f"error: {options.model} cannot be loaded ({error}); run the stage export.",
            file=sys.stderr,
        )
        return 2
    except Exception as error:  # onnxruntime's own exceptions share no base class
        print(f"error: {options.model} is not a model of ours ({error}).", file=sys.stderr)
        return 2

    files: list[Path] = []
    for path in options.pictures:
        files += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    names = [path.stem for path in files]
    clashing = sorted({name for name in names if names.count(name) > 1})
    if clashing:
        print(
            f"error: several pictures are named {clashing[0]}; their masks would overwrite each "
            "other, so segment them into different folders.", file=sys.stderr,
        )  # fmt: skip
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    broken = []
    for path in tqdm(files, desc="predict", unit="img"):
        try:
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            broken.append(f"{path} ({error})")
            continue
        mask = predictor(picture)
        predictor.save(mask, options.out / f"{path.stem}.png")
        if options.overlay:
            predictor.overlay(picture, mask).save(options.out / f"{path.stem}_overlay.png")
    for line in broken:
        print(f"skipped: {line}", file=sys.stderr)
    print(f"{len(files) - len(broken)} masks in {options.out}, {len(broken)} pictures skipped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
