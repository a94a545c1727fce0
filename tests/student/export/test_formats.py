"""What every file of an exported student must do, and a format that is added."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.files import read_json
from student.export.deploy import Deployed, from_pretrained, labels_of
from student.export.formats import EXPORT_FORMATS
from student.export.formats.base import SegmentFunction
from student.export.formats.onnx import onnx_predictor, run_onnx
from student.export.graph import Traced
from student.network import load_student
from tests.conftest import ROOT, SIZE
from tests.student.export.test_stage import export, faces


@pytest.fixture(scope="module")
def deployed(student_folder: Path) -> Deployed:
    student, about = load_student(student_folder)
    return Deployed(student, about["resolution"])


@pytest.mark.parametrize("name", sorted(EXPORT_FORMATS))
class TestEveryFormat:
    """The contract of a format, on the folder that the stage wrote."""

    @pytest.mark.parametrize(
        ("count", "height", "width"),
        [(1, SIZE, SIZE), (3, 37, 52), (2, 1, 1), (1, 1, 90), (2, 200, 7), (1, 1300, 2500)],
    )
    def test_says_what_pytorch_says_at_any_size(
        self, exported: Path, deployed: Deployed, name: str, count: int, height: int, width: int
    ) -> None:
        form, images = EXPORT_FORMATS[name], faces(count, height, width)
        mine = labels_of(deployed(images))
        assert mine.shape == (count, height, width) and mine.dtype == torch.uint8
        theirs = form.run(exported / form.file)(images)
        assert theirs.shape == mine.shape and theirs.dtype == torch.uint8
        if form.exact:
            assert (theirs == mine).double().mean() > 0.999

    def test_is_on_the_page(self, exported: Path, name: str) -> None:
        form = EXPORT_FORMATS[name]
        assert f"| `{form.file}` | {form.row} |" in (exported / "README.md").read_text()


def test_weights_for_pytorch_are_the_same_student(exported: Path, deployed: Deployed) -> None:
    again = from_pretrained(exported)
    for size in ((1, SIZE, SIZE), (2, 37, 52)):
        assert torch.equal(labels_of(again(faces(*size))), labels_of(deployed(faces(*size))))


def test_a_square_of_the_training_size_is_seen_as_it_is(exported: Path, deployed: Deployed) -> None:
    images = faces(4, SIZE, SIZE).permute(0, 3, 1, 2)
    plain = deployed.student(images).argmax(1)
    assert (onnx_predictor(exported / "student.onnx")(images) == plain).double().mean() > 0.999


def test_sizes_have_names_that_people_know(exported: Path) -> None:
    graph = onnx.load(exported / "student.onnx").graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["n", "h", "w", 3], "labels": ["n", "h", "w"]}


def test_no_file_tells_where_it_was_made(exported: Path) -> None:
    contents = [(exported / name).read_bytes() for name in ("student.onnx", "student-int8.onnx")]
    with zipfile.ZipFile(exported / "student.pt2") as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    assert not any(str(ROOT).encode() in content for content in contents)


def test_eight_bits_are_in_all_convolutions_but_the_first(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / "student-int8.onnx"))
    expected = np.load(exported / "expected.npz")
    (labels,) = session.run(["labels"], {"images": expected["images"]})
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


def test_what_onnx_runtime_cannot_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter.onnx").write_text("Dear runtime")
    with pytest.raises(
        UserError, match=r"letter\.onnx is not an ONNX file that ONNX Runtime can run"
    ):
        run_onnx(tmp_path / "letter.onnx")


class Weights:
    """A format of one's own: weights that NumPy reads; it runs in PyTorch."""

    file, title, exact = "student.npz", "NumPy", True
    row = "weights for NumPy"

    def write(self, student: Traced, path: Path) -> None:
        self.student = student.deployed
        with path.open("wb") as handle:
            np.savez(handle, **{k: v.numpy() for k, v in student.deployed.state_dict().items()})

    def run(self, path: Path) -> SegmentFunction:
        weights = {name: torch.from_numpy(value) for name, value in np.load(path).items()}

        def segment(images: Tensor) -> Tensor:
            given = torch.func.functional_call(self.student, weights, (images,))
            return labels_of(given)

        return segment


class Inverted(Weights):
    """The same, but wrong."""

    def run(self, path: Path) -> SegmentFunction:
        right = super().run(path)
        return lambda images: 1 + right(images)


def test_a_format_of_ones_own_is_one_line(
    student_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(EXPORT_FORMATS, "pt2")
    monkeypatch.setitem(EXPORT_FORMATS, "numpy", Weights())
    folder = export(student_folder, tmp_path, int8=False)
    manifest = read_json(folder.path / "manifest.json")
    assert "student/student.npz" in manifest["files"]
    assert {*manifest["figures"]["agreement_by_size"]} == {"onnx", "numpy"}
    page = (folder.path / "student/README.md").read_text()
    assert "| `student.npz` | weights for NumPy |" in page and "student.pt2" not in page


def test_a_format_that_says_something_else_is_refused(
    student_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(EXPORT_FORMATS, "pt2")
    monkeypatch.setitem(EXPORT_FORMATS, "numpy", Inverted())
    with pytest.raises(UserError, match=r"student\.npz agrees with PyTorch on only 0\.0000%"):
        export(student_folder, tmp_path, int8=False)
    assert not (tmp_path / "student/student.npz").exists()
    assert not (tmp_path / "manifest.json").exists()
