"""An exported student, and what is drawn and counted from its label maps.

Needs onnxruntime, numpy and Pillow; imports neither torch nor timm.

Shapes: N = images, H, W = pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.files import read_fields
from student.predict.onnx_model import Array, OnnxModel

MODEL = "student.onnx"
LABELS = "labels.json"


class Segmenter:
    """An exported student on the CPU: uint8 RGB images [N, H, W, 3] in, label maps [N, H, W] out.

    Args:
        model: the folder that the stage `export` wrote, or an ONNX file in it.
        threads: number of threads of ONNX Runtime; none for all cores.

    Raises:
        UserError: there is no exported student.
    """

    def __init__(self, model: Path, threads: int | None = None) -> None:
        path = _find(model)
        labels = path.parent / LABELS
        if not labels.is_file():
            raise UserError(
                f"{path} needs {LABELS} beside it; keep the files that the stage export wrote together."
            )
        remedy = "copy its folder again"
        about = read_fields(labels, {"names": list, "colours": list}, remedy)
        try:
            self.names = [str(name) for name in about["names"]]
            self.palette = np.full((256, 3), 255, np.uint8)
            colours = np.array(about["colours"])
            if colours.shape != (len(self.names), 3) or colours.dtype.kind != "i":
                raise ValueError("names and colours do not agree")
            self.palette[: len(self.names)] = np.array(colours.tolist(), np.uint8)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{labels} is not what the stage export wrote ({error!r}); {remedy}."
            ) from error
        self._network = OnnxModel(path, threads)

    def __call__(self, images: Array) -> Array:
        """Label maps of images of one size."""
        return self._network(images)

    def as_png(self, mask: Array) -> Image.Image:
        """A mask [H, W] as a palette image: any viewer shows the classes' colours."""
        image = Image.fromarray(mask)
        image.putpalette(self.palette.flatten().tolist())
        return image

    def overlay(self, image: Array, mask: Array) -> Array:
        """The image [H, W, 3] tinted by the classes' colours; background stays as it is."""
        tinted = (image // 2) + (self.palette // 2)[mask]
        return np.where(mask[..., None] == 0, image, tinted)

    def areas(self, mask: Array) -> dict[str, dict[str, float]]:
        """Pixels of every class in a mask, and their share of it."""
        counts = np.bincount(mask.ravel(), minlength=len(self.names))
        return {
            "pixels": {name: int(n) for name, n in zip(self.names, counts, strict=False)},
            "shares": {
                name: round(float(n) / mask.size, 6)
                for name, n in zip(self.names, counts, strict=False)
            },
        }


def _find(model: Path) -> Path:
    """The ONNX file that a file or a folder of the stage export stands for."""
    places = [model / MODEL, model / "student" / MODEL] if model.is_dir() else [model]
    for path in places:
        if path.is_file():
            return path
    missing = f"{model} holds no {MODEL}" if model.is_dir() else f"{model} does not exist"
    raise UserError(f"{missing}; run the stage export, and name the folder that it wrote.")
