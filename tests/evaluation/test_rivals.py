"""Other exported segmenters as rows of the comparison, through the command line."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from onnx import NodeProto, TensorProto, helper

from common.files import read_json
from tests.conftest import Chain, run_cli
from tests.evaluation.conftest import Refused

Shape = Sequence[int | str]


def network(kind: int, shape: Shape, node: NodeProto, output_shape: Shape) -> bytes:
    """An ONNX network of one operation."""
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", kind, output_shape)
    graph = helper.make_graph([node], "g", [x], [y])
    version = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=version, ir_version=9).SerializeToString()


# Segmenters that this comparison cannot run: as most are exported, for normalised images; with classes in a
# dimension of their own; with values that are no classes of the run; for images of one size.
_ANY: Shape = ["n", "h", "w", 3]
FLOATS = network(
    TensorProto.FLOAT, ["n", 3, 16, 16], helper.make_node("Relu", ["x"], ["y"]), ["n", 3, 16, 16]
)
LOGITS = network(
    TensorProto.UINT8, _ANY, helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2]),
    ["n", 3, "h", "w"],
)  # fmt: skip
OTHER_CLASSES = network(
    TensorProto.UINT8, _ANY, helper.make_node("ReduceMax", ["x"], ["y"], axes=[3], keepdims=0),
    ["n", "h", "w"],
)  # fmt: skip
ONE_SIZE = network(
    TensorProto.UINT8,
    [1, 512, 512, 3],
    helper.make_node("Identity", ["x"], ["y"]),
    [1, 512, 512, 3],
)


def test_another_exported_segmenter_has_a_row(chain: Chain, finished: Path, run: Path) -> None:
    """Compared once more, nothing is trained again."""
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--compare.inversion_images", 0,
        "--sources.rivals", json.dumps({"theirs": str(finished / "export/student/student.onnx")}),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    for kept in ("labels_alone/manifest.json", "student/manifest.json"):
        assert (run / kept).stat().st_mtime_ns == (finished / kept).stat().st_mtime_ns
    result = read_json(run / "compare/comparison.json")
    rows = result["test_sets"]["held_out"]["models"]
    assert rows["theirs"]["confusion"] == rows["student_onnx"]["confusion"]
    assert result["hashes"]["rivals.theirs"] == result["hashes"]["student_onnx"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("student", None, "a row of its own"),
        ("theirs", b"no network", "not an ONNX file that ONNX Runtime can run"),
        ("theirs", FLOATS, "takes x tensor(float)"),
        ("theirs", LOGITS, "returns [2, 3, 64, 64] for images"),
        ("theirs", OTHER_CLASSES, "the run has 8: 0 background to 7 ear"),
        ("theirs", ONE_SIZE, "does not run on images [2, 3, 64, 64]"),
    ],
    ids=["own row", "no ONNX", "floats", "logits", "other classes", "one size"],
)
def test_a_rival_that_cannot_be_run_is_refused(
    chain: Chain,
    finished: Path,
    run: Path,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    message: str,
    refused: Refused,
) -> None:
    file = finished / "export/student/student.onnx"
    if content is not None:
        file = tmp_path / "other.onnx"
        file.write_bytes(content)
    assert message in refused(
        "compare", "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--sources.rivals", json.dumps({name: str(file)}),
    )  # fmt: skip
    assert (run / "compare/comparison.json").exists()  # nothing is replaced by what is refused
