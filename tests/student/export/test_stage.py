"""The exported folder, used as by those who get it: without the run, the graph files without our code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import StageFolder
from datasets.faces import render_faces
from student.base import NetworkConfig
from student.decoders import DECODERS
from student.decoders.narrow_unet import NarrowUNet
from student.export.deploy import Deployed, labels_of
from student.export.graph import check_exportable
from student.export.stage import ExportJob, ExportStage, export_student
from tests.conftest import LABELS

FILES = {
    "student.onnx", "student-int8.onnx", "student.pt2", "model.safetensors", "config.json",
    "labels.json", "README.md", "expected.npz",
}  # fmt: skip


def faces(count: int, height: int, width: int) -> Tensor:
    """Images [N, height, width, 3]."""
    images = render_faces(9, torch.arange(count), 64)[0].float()
    resized = F.interpolate(images, (height, width), mode="bilinear")
    return resized.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def export(student: Path, out: Path, **options: float) -> StageFolder:
    """The stage itself, in this process."""
    job = ExportJob(ExportStage(**options))  # type: ignore[arg-type]
    folder = StageFolder(out, "export", job, {"labels": LABELS, "student": student})
    folder.begin()
    folder.finish(export_student(job, folder))
    return folder


def test_the_folder_is_whole_and_the_manifest_says_how_well_it_agrees(
    exported: Path, student_folder: Path
) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    manifest = read_json(student_folder.parent / "export/manifest.json")
    assert {*manifest["files"]} == {f"student/{name}" for name in FILES}
    figures = manifest["figures"]
    assert figures["agreement"] > 0.999
    assert set(figures["agreement_by_size"]) == {"onnx", "pt2"}
    assert {"16x16", "48x32", "1x1", "2100x1500"} <= set(figures["agreement_by_size"]["onnx"])
    assert figures["int8"]["written"] and figures["int8"]["miou"] > 0


def test_edges_of_an_enlarged_image_are_smooth() -> None:
    """Logits grow before the best class is taken: a slanting edge is none of blocks."""

    class Slant(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = torch.arange(8.0) + 0.4 * torch.arange(8.0)[:, None] - 5
            return torch.stack([logits, -logits])[None]

    deployed = Deployed(Slant(), 8)  # type: ignore[arg-type]
    labels = labels_of(deployed(torch.zeros(1, 80, 80, 3, dtype=torch.uint8)))[0]
    starts = (labels == 0).int().argmax(1)[10:70]
    assert starts.diff().abs().max() <= 3


def test_the_readme_works_as_written(exported: Path, tmp_path: Path) -> None:
    """Its Python, word for word, in a copy of the folder and without our code in reach."""
    folder = tmp_path / "received"
    shutil.copytree(exported, folder)
    Image.fromarray(faces(1, 40, 30)[0].numpy()).save(folder / "image.jpg")
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


def test_probabilities_on_demand(
    student_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(student_folder, tmp_path, probabilities=True, int8_max_loss=-1.0)
    session = onnxruntime.InferenceSession(str(tmp_path / "student/student.onnx"))
    images = faces(2, 21, 34)
    labels, shares = session.run(None, {"images": images.numpy()})
    assert shares.shape == (2, 8, 21, 34) and shares.dtype == np.float32
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert (shares.argmax(1) == labels).all()
    # Nothing is a whole mIoU better than floats: refused, with the reason, and not written.
    said = read_json(tmp_path / "manifest.json")["figures"]["int8"]["said"]
    assert "validation images" in said and said in capsys.readouterr().out
    assert not (tmp_path / "student/student-int8.onnx").exists()
    page = (tmp_path / "student/README.md").read_text()
    assert "second output" in page and "student-int8.onnx" not in page


def test_without_its_images_there_are_no_eight_bits(student_folder: Path, tmp_path: Path) -> None:
    """A student of pseudo-labels that are gone, or are others now."""
    shutil.copytree(student_folder, tmp_path / "student")
    made = read_json(tmp_path / "student/config.json")
    made["config"]["recipe"]["source"] = "pseudo_labels"
    write_json(tmp_path / "student/config.json", made)
    folder = export(tmp_path / "student", tmp_path / "export")
    figures = read_json(folder.path / "manifest.json")["figures"]
    assert figures["int8"]["said"] == "no eight bits, since its training images are not at hand"
    assert figures["agreement"] > 0.999


def test_what_cannot_be_exported_is_refused_before_the_work_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stubborn(NarrowUNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images * float(images.float().mean() > 3))

    monkeypatch.setitem(DECODERS, "stubborn", Stubborn)
    with pytest.raises(
        UserError, match=r"encoder 'resnet10t' cannot be exported.*student\.network"
    ):
        check_exportable(
            NetworkConfig("resnet10t", "stubborn", levels=2, decoder_width=8, detail_channels=4), 3
        )


def test_a_graph_that_says_something_else_is_refused(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.onnx agrees with PyTorch on"):
        export(student_folder, tmp_path, min_agreement=1.1)
    assert not (tmp_path / "student/student.onnx").exists()
    assert not (tmp_path / "manifest.json").exists()
