"""An exported student in ONNX Runtime, and what is drawn from its label maps.

Needs onnxruntime, numpy and Pillow; neither torch nor timm is loaded.

Shapes: N = pictures, H, W = pixels.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.uint8]

MODEL = "student.onnx"
LABELS = "labels.json"


class Refused(Exception):
    """Bad usage: one sentence for the person at the terminal, no traceback, exit code 2."""


def open_session(model: Path, threads: int | None = None) -> Any:
    """An ONNX file in ONNX Runtime on the CPU, ready to run.

    Its threads stop as soon as a run ends. Otherwise they would go on spinning for a while, on the cores
    that others want in the meantime: to decode the next picture, say.

    Args:
        threads: that it works in; none for all cores.

    Raises:
        Exception: it cannot be run; ONNX Runtime has no common class for its own.
    """
    import onnxruntime  # takes longer than all the rest; `--help` does without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors alone
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class Segmenter:
    """An exported student on the CPU: uint8 RGB pictures [N, H, W, 3] in, label maps [N, H, W] out.

    Args:
        model: the folder that the stage `export` wrote, or an ONNX file in it.
        threads: that ONNX Runtime works in; none for all cores.

    Raises:
        Refused: there is no model of ours.
    """

    def __init__(self, model: Path, threads: int | None = None) -> None:
        path = _find(model)
        try:
            about = json.loads((path.parent / LABELS).read_text())
            self.names: list[str] = [str(name) for name in about["names"]]
            self.palette = np.full((256, 3), 255, np.uint8)
            self.palette[: len(self.names)] = about["colours"]
            self.session = open_session(path, threads)
        except OSError as error:
            raise Refused(
                f"{path} needs {LABELS} beside it ({error.strerror}); keep the files that the stage "
                "export wrote together."
            ) from error
        except Exception as error:
            raise Refused(
                f"{path} is not a model that the stage export wrote ({error}); copy its folder again "
                "or run the stage export."
            ) from error

    def __call__(self, pictures: Array) -> Array:
        """Label maps of pictures of one size."""
        labels: Array = self.session.run(["labels"], {"pictures": pictures})[0]
        return labels

    def as_png(self, mask: Array) -> Image.Image:
        """A mask [H, W] as a palette picture: any viewer shows the classes' colours."""
        image = Image.fromarray(mask)
        image.putpalette(self.palette.flatten().tolist())
        return image

    def overlay(self, picture: Array, mask: Array) -> Array:
        """The picture [H, W, 3] with its parts tinted; background stays as it is."""
        tinted = (picture // 2) + (self.palette // 2)[mask]
        return np.where(mask[..., None] == 0, picture, tinted)

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
    """The ONNX file that is meant by a file or by a folder of the stage export."""
    places = [model / MODEL, model / "student" / MODEL] if model.is_dir() else [model]
    for path in places:
        if path.is_file():
            return path
    missing = f"{model} holds no {MODEL}" if model.is_dir() else f"{model} does not exist"
    raise Refused(f"{missing}; run the stage export, and name the folder that it wrote.")


def cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
