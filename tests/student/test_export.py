"""The exported folder, used as by those who get it: without the run, the graph files without our code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import StageFolder
from datasets.faces import render_faces
from student.export.deploy import Deployed, from_pretrained
from student.export.graph import Run, check_exportable, run_onnx, run_pt2
from student.export.stage import ExportStage, export_student
from student.network import NetworkConfig, Student, load_student
from tests.conftest import LABELS, SIZE

FILES = {
    "student.onnx", "student-int8.onnx", "student.pt2", "model.safetensors", "config.json",
    "labels.json", "README.md", "expected.npz",
}  # fmt: skip


def faces(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures [N, height, width, 3]."""
    pictures = render_faces(9, torch.arange(count), 64)[0].float()
    shown = F.interpolate(pictures, (height, width), mode="bilinear")
    return shown.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def files(exported) -> dict[str, Run]:
    return {
        "onnx": run_onnx(exported / "student.onnx"),
        "pt2": run_pt2(exported / "student.pt2"),
        "safetensors": from_pretrained(exported),
    }


def test_the_folder_is_whole_and_the_manifest_says_how_well_it_agrees(exported, student_folder):
    assert {path.name for path in exported.iterdir()} == FILES
    manifest = read_json(student_folder.parent / "export/manifest.json")
    assert {*manifest["files"]} == {f"student/{name}" for name in FILES}
    figures = manifest["figures"]
    assert figures["agreement"] > 0.999
    assert set(figures["agreement_by_size"]) == {"onnx", "pt2"}
    assert {"16x16", "48x32", "1x1", "2100x1500"} <= set(figures["agreement_by_size"]["onnx"])
    assert figures["int8"]["written"] and figures["int8"]["miou"] > 0


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [(1, SIZE, SIZE), (3, 37, 52), (2, 1, 1), (1, 1, 90), (2, 200, 7), (1, 1300, 2500)],
)
def test_every_file_says_what_pytorch_says_at_any_size(files, student_folder, count, height, width):
    pictures = faces(count, height, width)
    student, about = load_student(student_folder)
    mine = Deployed(student, about["resolution"])(pictures)
    assert mine.shape == (count, height, width) and mine.dtype == torch.uint8
    for name, run in files.items():
        assert run(pictures).shape == mine.shape, name
        assert (run(pictures) == mine).double().mean() > 0.999, name


def test_a_square_of_the_training_size_is_seen_as_it_is(files, student_folder):
    pictures = faces(4, SIZE, SIZE)
    student, _ = load_student(student_folder)
    plain = student(pictures.permute(0, 3, 1, 2)).argmax(1)
    assert (files["onnx"](pictures) == plain).double().mean() > 0.999


def test_edges_of_an_enlarged_picture_are_smooth():
    """Logits grow before the best class is taken: a slanting edge is none of blocks."""

    class Slant(torch.nn.Module):
        def forward(self, pictures):
            logits = torch.arange(8.0) + 0.4 * torch.arange(8.0)[:, None] - 5
            return torch.stack([logits, -logits])[None]

    labels = Deployed(Slant(), 8)(torch.zeros(1, 80, 80, 3, dtype=torch.uint8))[0]
    starts = (labels == 0).int().argmax(1)[10:70]
    assert starts.diff().abs().max() <= 3


def test_sizes_have_names_that_people_know(exported):
    graph = onnx.load(exported / "student.onnx").graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {"pictures": ["n", "h", "w", 3], "labels": ["n", "h", "w"]}


def test_eight_bits_are_in_all_convolutions_but_the_first(exported):
    session = onnxruntime.InferenceSession(str(exported / "student-int8.onnx"))
    expected = np.load(exported / "expected.npz")
    (labels,) = session.run(["labels"], {"pictures": expected["pictures"]})
    assert (labels == expected["labels"]).mean() > 0.8
    graph = onnx.load(exported / "student-int8.onnx").graph
    made = {out: node.op_type for node in graph.node for out in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    eight = [node for node in convolutions if made.get(node.input[1]) == "DequantizeLinear"]
    assert len(convolutions) - 3 <= len(eight) < len(convolutions)
    assert eight[-1] is convolutions[-1]
    # Between them nothing goes back to floats: a ReLU is the lower end of its layer's range.
    alone = [node for node in graph.node if node.op_type == "Relu"]
    assert all(made[node.input[0]] == "Conv" for node in alone)
    assert len(alone) < 3


def test_the_page_works_as_written(exported, tmp_path):
    """Its Python, word for word, in a copy of the folder and without our code in reach."""
    folder = tmp_path / "received"
    shutil.copytree(exported, folder)
    Image.fromarray(faces(1, 40, 30)[0].numpy()).save(folder / "picture.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    printed = []
    for block in blocks:
        made = subprocess.run(
            [sys.executable, "-I", "-c", block], cwd=folder, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        printed.append(made.stdout)
    assert len(blocks[0].splitlines()) <= 10
    assert printed[0].startswith("background: ") and printed[0].count("%") == 8
    assert float(printed[1]) == 1
    assert "Intersection over union" in (folder / "README.md").read_text()
    assert str(Path.home()) not in (folder / "README.md").read_text()


def export(student: Path, out: Path, **options: object) -> StageFolder:
    """The stage itself, in this process."""
    config = ExportStage(**options)
    inputs = {"labels": LABELS, "student": student}
    folder = StageFolder(out, "export", config, inputs)
    folder.begin()
    folder.finish(export_student(config, folder))
    return folder


def test_probabilities_on_demand(student_folder, tmp_path, capsys):
    export(student_folder, tmp_path, probabilities=True, int8_loss=-1.0)
    session = onnxruntime.InferenceSession(str(tmp_path / "student/student.onnx"))
    pictures = faces(2, 21, 34)
    labels, shares = session.run(None, {"pictures": pictures.numpy()})
    assert shares.shape == (2, 8, 21, 34) and shares.dtype == np.float32
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert (shares.argmax(1) == labels).all()
    # Nothing is a whole mIoU better than floats: refused, with the reason, and not written.
    said = read_json(tmp_path / "manifest.json")["figures"]["int8"]["said"]
    assert "held-back pictures" in said and said in capsys.readouterr().out
    assert not (tmp_path / "student/student-int8.onnx").exists()
    page = (tmp_path / "student/README.md").read_text()
    assert "second output" in page and "student-int8.onnx" not in page


def test_without_its_pictures_there_are_no_eight_bits(student_folder, tmp_path):
    """A student of pseudo-labels that are gone, or are others now."""
    shutil.copytree(student_folder, tmp_path / "student")
    made = read_json(tmp_path / "student/config.json")
    made["config"]["source"] = "pseudo_labels"
    write_json(tmp_path / "student/config.json", made)
    folder = export(tmp_path / "student", tmp_path / "export")
    figures = read_json(folder.path / "manifest.json")["figures"]
    assert figures["int8"]["said"] == "no eight bits, since its training's pictures are not at hand"
    assert figures["agreement"] > 0.999


def test_what_cannot_be_exported_is_refused_before_the_work_starts(monkeypatch, tmp_path):
    class Stubborn(Student):
        def forward(self, pictures):
            return super().forward(pictures * float(pictures.float().mean() > 3))

    monkeypatch.setattr("student.export.graph.Student", Stubborn)
    with pytest.raises(
        UserError, match=r"encoder 'resnet10t' cannot be exported.*student\.network"
    ):
        check_exportable(
            NetworkConfig("resnet10t", levels=2, decoder_width=8, detail_channels=4), 3
        )


def test_a_graph_that_says_something_else_is_refused(student_folder, tmp_path):
    with pytest.raises(UserError, match=r"student\.onnx agrees with PyTorch on"):
        export(student_folder, tmp_path, agreement=1.1)
    assert not (tmp_path / "student/student.onnx").exists()
    assert not (tmp_path / "manifest.json").exists()
