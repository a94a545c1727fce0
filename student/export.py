"""Stage `export`: the student as an ONNX file that takes raw pictures and gives label maps."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from accelerate import PartialState
from torch import Tensor, nn

from datasets.artifacts import Result, StageFolder, UserError, atomic_write, write_json
from datasets.labels import LabelSet
from student.network import Predict, Student, load_student

MODEL = "student.onnx"
LABELS = "labels.json"


@dataclass(frozen=True)
class ExportStage:
    """Stage `export`.

    Args:
        agreement: least share of pixels on which ONNX Runtime and PyTorch must agree.
    """

    agreement: float = 0.999


def onnx_predictor(path: Path) -> Predict:
    """A segmenter in ONNX Runtime, on the CPU: uint8 RGB [N, H, W, 3] in, label maps [N, H, W] out.

    Raises:
        UserError: the file cannot be read, or takes something else.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has no common class for them
        raise UserError(f"{path} is no ONNX file that ONNX Runtime can run ({error}).") from error
    (taken, *more), (given, *_) = session.get_inputs(), session.get_outputs()
    if more or taken.type != "tensor(uint8)" or len(taken.shape) != 4 or taken.shape[3] != 3:
        raise UserError(
            f"{path} takes {taken.name} {taken.type} {taken.shape}; a segmenter of this comparison takes "
            "uint8 RGB pictures [N, H, W, 3] alone. Export it with its normalisation inside."
        )

    def predict(pictures: Tensor) -> Tensor:
        shown = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        (masks,) = session.run([given.name], {taken.name: shown})
        return torch.from_numpy(masks.astype(np.uint8))

    return predict


class Deployed(nn.Module):
    """uint8 pictures [N, H, W, 3] -> uint8 label maps [N, H, W]."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, pictures: Tensor) -> Tensor:
        return self.student(pictures.permute(0, 3, 1, 2)).argmax(1).to(torch.uint8)


def export_student(config: ExportStage, folder: StageFolder) -> Result:
    """Run the stage: writes `student.onnx` and `labels.json`; checks the file in ONNX Runtime.

    Reads the inputs `student` and `labels`.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    labels = LabelSet.load(folder.inputs["labels"])
    student, about = load_student(folder.inputs["student"])
    deployed, size = Deployed(student).eval(), about["resolution"]
    state = torch.Generator().manual_seed(0)
    # Smooth blobs: noise of every scale, so that all layers see ordinary activations.
    coarse = torch.rand(4, 3, 8, 8, generator=state) * 255
    example = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    example = example.permute(0, 2, 3, 1).to(torch.uint8).contiguous()

    with atomic_write(folder.path / MODEL) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing to act on
        program = torch.onnx.export(
            deployed, (example,), dynamo=True, verbose=False,
            input_names=["pictures"], output_names=["labels"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
        assert program is not None
        program.save(str(partial), external_data=False)
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        mine = deployed(example).numpy()
        (theirs,) = session.run(None, {"pictures": example.numpy()})
        agreement = float(np.mean(mine == theirs))
        if agreement < config.agreement:
            raise UserError(
                f"ONNX Runtime agrees with PyTorch on {agreement:.4%} of pixels only, less than "
                f"export.agreement {config.agreement:.4%}; no file was written."
            )
    about = {
        "names": labels.names, "colours": labels.colours, "ignore_index": labels.ignore_index,
        "resolution": size,
    }  # fmt: skip
    write_json(folder.path / LABELS, about)
    return Result([MODEL, LABELS], {"agreement": agreement})
