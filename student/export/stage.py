"""Stage `export`: a folder that people zip and send, with all that runs the student elsewhere.

It is the folder `student` in the stage's own: the student in every format of `EXPORT_FORMATS`; weights and
config for PyTorch; names and colours; a README that says how to use it, and an example to check an
installation with. Beside it lie the stage's own config and manifest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor

from common.checkpoints import save_weights
from common.files import atomic_write, read_json, write_json
from common.stage_folder import MANIFEST, Result, StageFolder
from datasets.labels import LabelSet
from student.data import OpenOnline
from student.export.acceptance import write_exact, write_inexact
from student.export.card import README, mention_page, write_card
from student.export.deploy import MODEL_CONFIG, MODEL_WEIGHTS, Deployed
from student.export.formats import EXPORT_FORMATS
from student.export.formats.onnx import run_onnx
from student.export.graph import Traced, trace
from student.export.images import ExportImages, find_images
from student.export.web.page import PAGE, write_page
from student.export.web.runtime import Runtime
from student.network import WEIGHTS, load_student
from student.predict.segmenter import LABELS
from student.predict.segmenter import MODEL as MODEL_FILE

FOLDER = "student"
MODEL = f"{FOLDER}/{MODEL_FILE}"
EXPECTED = "expected.npz"


@dataclass(frozen=True)
class ExportStage:
    """Stage `export`.

    Args:
        min_agreement: least share of pixels on which each exact file must agree with PyTorch, at every
            image size that is tried.
        probabilities: give the classes' probabilities as a second output.
        int8: write the student in eight bits too, if that loses little.
        int8_max_loss: largest loss of mIoU on the validation images with which it is still written.
        calibration_images: training images on which the ranges of its maps are measured.
        web: add a page, `student/web/index.html`, that runs the student in a browser; needs npm.
    """

    min_agreement: float = 0.999
    probabilities: bool = False
    int8: bool = True
    int8_max_loss: float = 0.01
    calibration_images: int = 100
    web: bool = False


@dataclass(frozen=True)
class ExportJob:
    """What the stage `export` depends on.

    Args:
        export: how the student is exported.
        online: settings of what made its samples while it trained, for a student of such; else none.
    """

    export: ExportStage
    online: Any = None


def export_student(
    config: ExportJob, folder: StageFolder, open_online: OpenOnline | None = None
) -> Result:
    """Run the stage: writes the folder `student` in its own.

    Reads the inputs `student` and `labels`, and what the student was made from where that is at hand.

    Args:
        open_online: opens the data set of the source `online` from `config.online` and the folder's inputs.

    Raises:
        UserError: the student cannot be exported, or a file does not agree with PyTorch.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    export, labels = config.export, LabelSet.load(folder.inputs["labels"])
    student, about = load_student(folder.inputs["student"])
    images = find_images(
        folder, labels, about["resolution"], export.calibration_images, config.online, open_online
    )
    deployed = Deployed(student, about["resolution"], export.probabilities).eval()
    traced = trace(
        deployed, images.training
    )  # refuses what no format can hold, before anything is written

    out = folder.path / FOLDER
    out.mkdir(exist_ok=True)
    figures = {
        **_write_formats(export, traced, images, len(labels), out),
        "parameters": sum(p.numel() for p in student.parameters()),
        "outputs": ["labels", "probabilities"] if export.probabilities else ["labels"],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
    save_weights(out / MODEL_WEIGHTS, load_file(folder.inputs["student"] / WEIGHTS))
    write_json(out / MODEL_CONFIG, about)
    known = {
        "names": labels.names, "colours": labels.colours, "ignore_index": labels.ignore_index,
        "resolution": about["resolution"],
    }  # fmt: skip
    write_json(out / LABELS, known)
    _write_expected(out, images.validation)
    write_card(folder, FOLDER, about, labels, figures)
    files = sorted(p for p in out.iterdir() if p.is_file())
    return Result([f"{FOLDER}/{p.name}" for p in files if not p.name.startswith(".")], figures)


def _write_formats(
    export: ExportStage, traced: Traced, images: ExportImages, classes: int, out: Path
) -> dict[str, Any]:
    """Write the student in every format; gives the exact ones' agreement and the others' mIoU."""
    agreements: dict[str, dict[str, float]] = {}
    inexact: dict[str, dict[str, Any]] = {}
    for name, form in EXPORT_FORMATS.items():
        path = out / form.file
        if form.exact:
            agreements[name] = write_exact(
                form, traced, images.validation, path, export.min_agreement
            )
            continue
        inexact[name] = {"written": False, "said": f"no {form.title}, since export.int8 is false"}
        if export.int8:
            inexact[name] = write_inexact(form, traced, images, classes, path, export.int8_max_loss)
        PartialState().print(f"export: {inexact[name]['said']}")
    least = min(share for shares in agreements.values() for share in shares.values())
    return {"agreement": least, "agreement_by_size": agreements, **inexact}


def _write_expected(out: Path, images: Tensor) -> None:
    """Write two images and what ONNX Runtime says of them here."""
    some = images[:2].permute(0, 2, 3, 1).contiguous()
    with atomic_write(out / EXPECTED) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, images=some, labels=run_onnx(out / MODEL_FILE)(some))


def has_page(export: Path) -> bool:
    """Whether a finished export has the page for browsers."""
    page, manifest = f"{FOLDER}/{PAGE}", export / MANIFEST
    return manifest.exists() and page in read_json(manifest)["files"] and (export / page).exists()


def add_page(folder: StageFolder, runtime: Runtime) -> None:
    """Add the page for browsers to a finished export. Main process only."""
    files = write_page(folder.path / FOLDER, runtime)
    mention_page(folder.path / FOLDER)
    folder.add([f"{FOLDER}/{name}" for name in (*files, README)])
    PartialState().print(f"export: open {folder.path / FOLDER / PAGE} in a browser")
