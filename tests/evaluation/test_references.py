"""The networks that the student is held against, through the command line."""

import json
import shutil
from itertools import combinations

import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file

from datasets.artifacts import read_json, write_json
from tests.conftest import run_cli


def test_the_rows_that_are_asked_for_stand_beside_the_others(
    chain, finished, student_folder, tmp_path
):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/compare")
    command = (
        "compare", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--compare.supervised", 20, "--sources.annotator", student_folder,
        "--compare.frozen.encoder", student_folder, "--compare.frozen.size", 32,
    )  # fmt: skip
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    tests = read_json(tmp_path / "run/compare/comparison.json")["test_sets"]
    plain = read_json(finished / "compare/comparison.json")["test_sets"]
    for name in ("generated", "held_out"):
        rows = tests[name]["models"]
        assert {"supervised", "perfect_teacher", "frozen_features"} <= set(rows)
        # Beside the new rows nothing has changed.
        assert rows["student"]["miou"] == plain[name]["models"]["student"]["miou"]
        assert rows["labels_alone"]["miou"] == plain[name]["models"]["labels_alone"]["miou"]
    trained = [
        load_file(tmp_path / "run/compare" / name / "last.safetensors")["classify.weight"]
        for name in ("labels_alone", "supervised", "perfect_teacher")
    ]
    assert not any(torch.equal(a, b) for a, b in combinations(trained, 2))


def test_too_few_faces_for_a_supervised_network_are_refused(chain, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/compare")
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--compare.supervised", 8,
    )  # fmt: skip
    assert made.returncode == 2
    assert "compare.supervised is 8" in made.stderr
    assert not (tmp_path / "run/compare/labels_alone").exists()


def test_an_annotator_of_other_classes_is_refused(chain, finished, student_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/compare")
    shutil.copytree(student_folder, tmp_path / "other")
    about = read_json(tmp_path / "other/student.json")
    write_json(
        tmp_path / "other/student.json", about | {"classes": [*about["classes"][:-1], "hat"]}
    )
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotator", tmp_path / "other",
    )  # fmt: skip
    assert made.returncode == 2
    assert "sources.annotator" in made.stderr and "hat" in made.stderr


def test_another_exported_segmenter_has_a_row(chain, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/compare")
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", tmp_path / "run", "--compare.inverted", 0,
        "--sources.rivals", json.dumps({"theirs": str(finished / "export/student/student.onnx")}),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    result = read_json(tmp_path / "run/compare/comparison.json")
    rows = result["test_sets"]["held_out"]["models"]
    assert rows["theirs"]["confusion"] == rows["student_onnx"]["confusion"]
    assert result["hashes"]["rivals.theirs"] == result["hashes"]["student_onnx"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("student", None, "a row of its own"),
        ("theirs", b"no network", "no ONNX file that ONNX Runtime can run"),
        ("theirs", "float", "takes x tensor(float)"),
    ],
)
def test_a_rival_that_cannot_be_asked_is_refused_first(
    chain, finished, tmp_path, name, content, message
):
    file = finished / "export/student/student.onnx"
    if content is not None:
        file = tmp_path / "other.onnx"
        file.write_bytes(content if isinstance(content, bytes) else taking_floats())
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/compare")
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.rivals", json.dumps({name: str(file)}),
    )  # fmt: skip
    assert made.returncode == 2, made.stderr
    assert message in made.stderr and "Traceback" not in made.stderr
    assert not (tmp_path / "run/compare/labels_alone").exists()


def taking_floats() -> bytes:
    """An ONNX network of normalised pictures, as most are exported."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 16, 16])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    version = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=version, ir_version=9).SerializeToString()
