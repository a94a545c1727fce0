"""Stage `export`: a folder that stands for itself, with all that runs the student elsewhere.

`student/` in the stage's folder is what people zip and send: the graph as ONNX, in eight bits too where
that is as good, as torch.export; weights and config for PyTorch; names and colours; a page that says how
to use it, and an example to check an installation with. Beside it lie the stage's own config and manifest.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor

from common.checkpoints import save_weights
from common.confusion import confusion_matrix, mean_iou
from common.errors import UserError
from common.files import atomic_write, read_json, write_json
from common.stage_folder import CONFIG, MANIFEST, Result, StageFolder
from datasets import Dataset
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.transforms import Exact
from student.data import Part
from student.export.card import README, mention_page, write_card
from student.export.deploy import MODEL_CONFIG, MODEL_WEIGHTS, Deployed
from student.export.graph import Run, agreement, run_onnx, run_pt2, to_onnx, trace, write_pt2
from student.export.quantise import quantise
from student.export.web.page import PAGE, write_page
from student.export.web.runtime import Runtime
from student.network import WEIGHTS, Predict, load_student
from student.predict.segmenter import open_session

FOLDER = "student"
MODEL = f"{FOLDER}/student.onnx"
INT8 = f"{FOLDER}/student-int8.onnx"
PT2 = f"{FOLDER}/student.pt2"
LABELS = f"{FOLDER}/labels.json"
EXPECTED = f"{FOLDER}/expected.npz"


@dataclass(frozen=True)
class ExportStage:
    """Stage `export`.

    Args:
        min_agreement: least share of pixels on which every file and PyTorch must agree, at every size tried.
        probabilities: give the classes' probabilities as a second output.
        int8: write the student in eight bits too, if it is as good.
        int8_max_loss: mIoU on held-back pictures that it may lose for that.
        calibration_images: pictures that its ranges are measured on.
    """

    min_agreement: float = 0.999
    probabilities: bool = False
    int8: bool = True
    int8_max_loss: float = 0.01
    calibration_images: int = 100


@dataclass(frozen=True)
class Pictures:
    """Pictures of the kind that the student has learned, uint8 [N, 3, R, R].

    Attributes:
        shown: held back from its training.
        truth: their masks [N, R, R]; none where the training's pictures are not at hand.
        learned: some that it trained on.
        why_none: the reason for that.
    """

    shown: Tensor
    truth: Tensor | None
    learned: Tensor | None
    why_none: str = ""


def export_student(
    config: ExportStage, folder: StageFolder, online: Dataset[Any] | None = None
) -> Result:
    """Run the stage: writes the folder `student` in its own.

    Reads the inputs `student`, `labels` and, where the student was trained on them and they are at hand,
    `pseudo_labels`.

    Args:
        online: what makes the student's samples, where it was trained on such.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    labels = LabelSet.load(folder.inputs["labels"])
    student, about = load_student(folder.inputs["student"])
    deployed = Deployed(student, about["resolution"], config.probabilities).eval()
    program = trace(deployed)  # what cannot be exported is refused here, before anything is written
    model = to_onnx(program, deployed)
    pictures = find_pictures(config, folder, labels, online, about["resolution"])
    folder.path.joinpath(FOLDER).mkdir(exist_ok=True)

    with atomic_write(folder.path / MODEL) as partial:
        onnx.save(model, str(partial))
        on_onnx = _check(config, deployed, run_onnx(partial), pictures.shown, MODEL)
    write_pt2(program, folder.path / PT2)
    on_pt2 = _check(config, deployed, run_pt2(folder.path / PT2), pictures.shown, PT2)
    int8 = _try_int8(config, folder, pictures, len(labels))
    PartialState().print(f"export: {int8['said']}")

    # What is not a graph.
    save_weights(
        folder.path / FOLDER / MODEL_WEIGHTS, load_file(folder.inputs["student"] / WEIGHTS)
    )
    write_json(folder.path / FOLDER / MODEL_CONFIG, about)
    known = {
        "names": labels.names, "colours": labels.colours, "ignore_index": labels.ignore_index,
        "resolution": about["resolution"],
    }  # fmt: skip
    write_json(folder.path / LABELS, known)
    _write_expected(folder.path, pictures.shown)
    figures = {
        "agreement": min([*on_onnx.values(), *on_pt2.values()]),
        "agreement_by_size": {"onnx": on_onnx, "pt2": on_pt2},
        "int8": int8,
        "parameters": sum(p.numel() for p in student.parameters()),
        "outputs": ["labels", "probabilities"] if config.probabilities else ["labels"],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
    write_card(folder, FOLDER, about, labels, figures)
    files = sorted(p for p in folder.path.joinpath(FOLDER).iterdir() if p.is_file())
    return Result([f"{FOLDER}/{p.name}" for p in files if not p.name.startswith(".")], figures)


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


def find_pictures(
    config: ExportStage,
    folder: StageFolder,
    labels: LabelSet,
    online: Dataset[Any] | None,
    resolution: int,
) -> Pictures:
    """What the student was trained on and what was held back, as the stage `student` parted them."""
    made = read_json(folder.inputs["student"] / CONFIG)
    recipe = made["config"].get("student", made["config"])
    source: Any = online
    why = "its training's pictures are not at hand"
    if recipe["source"] == "faces":
        faces = RenderedFaces(recipe["seed"], recipe["faces"], resolution, labels=labels)
        source = Exact(faces)
    elif "pseudo_labels" in folder.inputs:
        if made["inputs"]["pseudo_labels"] == folder.input_hash("pseudo_labels"):
            source = PseudoLabels(folder.inputs["pseudo_labels"])
        why = "the pseudo-labels are not those that it was trained on"
    if source is None:
        faces = RenderedFaces(0, config.calibration_images, resolution)
        return Pictures(faces.whole()[0], None, None, why)
    border = len(source) - recipe["held_back"]
    held_back = Part(source, range(border, len(source))).__getitems__([*range(recipe["held_back"])])
    learned = Part(source, range(border)).__getitems__(
        [*range(min(border, config.calibration_images))]
    )
    return Pictures(
        torch.stack([item.image for item in held_back]),
        torch.stack([item.mask for item in held_back]),
        torch.stack([item.image for item in learned]),
    )


def _check(
    config: ExportStage, deployed: Deployed, other: Run, pictures: Tensor, name: str
) -> dict[str, float]:
    """How far a file agrees with PyTorch, by size.

    Raises:
        UserError: too little.
    """
    shares = agreement(deployed, other, pictures)
    size, least = min(shares.items(), key=lambda item: item[1])
    if least < config.min_agreement:
        raise UserError(
            f"{name} agrees with PyTorch on {least:.4%} of pixels only for pictures of {size}, less than "
            f"export.min_agreement {config.min_agreement:.4%}; the stage is not finished."
        )
    return shares


def _try_int8(
    config: ExportStage, folder: StageFolder, pictures: Pictures, classes: int
) -> dict[str, Any]:
    """Write the student in eight bits if it is as good; says what came of it."""
    if not config.int8:
        return {"written": False, "said": "no eight bits, since export.int8 is false"}
    if pictures.learned is None or pictures.truth is None:
        return {"written": False, "said": f"no eight bits, since {pictures.why_none}"}
    before = _miou(onnx_predictor(folder.path / MODEL), pictures, classes)
    with TemporaryDirectory() as path:
        made = Path(path) / "student-int8.onnx"
        quantise(folder.path / MODEL, made, pictures.learned)
        after = _miou(onnx_predictor(made), pictures, classes)
        good = after >= before - config.int8_max_loss
        if good:
            with atomic_write(folder.path / INT8) as partial:
                shutil.copyfile(made, partial)
    change = f"mIoU {after:.4f} on {len(pictures.shown)} held-back pictures, {before:.4f} in floats"
    said = f"eight bits: {change}"
    if not good:
        said = f"no eight bits: {change}; export.int8_max_loss allows {config.int8_max_loss}"
    return {"written": good, "miou": after, "miou_float": before, "said": said}


def _miou(predict: Predict, pictures: Pictures, classes: int) -> float:
    assert pictures.truth is not None
    masks = torch.cat([predict(chunk) for chunk in pictures.shown.split(8)])
    return float(mean_iou(confusion_matrix(pictures.truth, masks, classes)))


def _write_expected(folder: Path, pictures: Tensor) -> None:
    """Two pictures and what ONNX Runtime says of them here."""
    shown = pictures[:2].permute(0, 2, 3, 1).contiguous()
    with atomic_write(folder / EXPECTED) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, pictures=shown, labels=run_onnx(folder / MODEL)(shown))


def onnx_predictor(path: Path) -> Predict:
    """A segmenter in ONNX Runtime, on the CPU: uint8 RGB [N, H, W, 3] in, label maps [N, H, W] out.

    Raises:
        UserError: the file cannot be read, or takes something else.
    """
    try:
        session = open_session(path, torch.get_num_threads())
    except Exception as error:  # ONNX Runtime has no common class for them
        raise UserError(f"{path} is no ONNX file that ONNX Runtime can run ({error}).") from error
    (taken, *more), (given, *_) = session.get_inputs(), session.get_outputs()
    if more or taken.type != "tensor(uint8)" or len(taken.shape) != 4 or taken.shape[3] != 3:
        raise UserError(
            f"{path} takes {taken.name} {taken.type} {taken.shape}; a segmenter of this comparison takes "
            "uint8 RGB pictures [N, H, W, 3] alone. Export it with its normalisation inside."
        )

    def predict(pictures: Tensor) -> Tensor:
        # In NumPy: a copy by PyTorch's threads leaves them spinning while the session needs the cores.
        shown = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).cpu().numpy())
        (masks,) = session.run([given.name], {taken.name: shown})
        return torch.from_numpy(masks.astype(np.uint8))

    return predict
