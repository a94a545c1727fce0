"""The networks that the student is held against, through the command line."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file

from common.errors import UserError
from common.files import read_json, write_json
from datasets.test_sets import TestSet
from evaluation.compare import CompareStage, Comparison
from evaluation.frozen_features import FrozenConfig
from evaluation.references import REFERENCES
from pipeline.config import Config, Sources, references
from pipeline.run import left_out
from student.recipe import StudentStage
from teacher.fit import TeacherStage
from tests.conftest import run_cli
from train import main


def network(kind, shape, node, given) -> bytes:
    """An ONNX network of one operation."""
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", kind, given)
    graph = helper.make_graph([node], "g", [x], [y])
    version = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=version, ir_version=9).SerializeToString()


# Segmenters that this comparison cannot ask: as most are exported, for normalised pictures; with classes
# in a dimension of their own; with numbers that are no classes of the run; for pictures of one size.
_ANY = ["n", "h", "w", 3]
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


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command line says to arguments that it refuses."""
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A finished run that may be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_the_rows_that_are_asked_for_stand_beside_the_others(chain, finished, run, student_folder):
    command = (
        "--config", chain.config, "--run.dir", run, "--compare.supervised_images", 20,
        "--sources.annotator", student_folder, "--compare.frozen_features.encoder", student_folder,
        "--compare.frozen_features.size", 32, "--compare.perceptual_network", student_folder,
    )  # fmt: skip
    early = run_cli("compare", *command, "--run.overwrite", "true")
    assert early.returncode == 2
    assert "which is not finished: run `train.py supervised`" in early.stderr
    made = run_cli("distill", *command, "--run.overwrite", "true")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("done already") == 5  # what was there is not made anew
    tests = read_json(run / "compare/comparison.json")["test_sets"]
    plain = read_json(finished / "compare/comparison.json")["test_sets"]
    for name in ("generated", "held_out"):
        rows = tests[name]["models"]
        assert {"supervised", "perfect_teacher", "frozen_features"} <= set(rows)
        # Beside the new rows nothing has changed.
        assert rows["student"]["miou"] == plain[name]["models"]["student"]["miou"]
        assert rows["labels_alone"]["miou"] == plain[name]["models"]["labels_alone"]["miou"]
    trained = [load_file(run / name / "last.safetensors")["classify.weight"] for name in REFERENCES]
    assert not any(torch.equal(a, b) for a, b in combinations(trained, 2))


def test_labels_alone_sees_the_samples_that_the_teacher_saw(chain, finished, tmp_path):
    """Other ones give other weights; which they are does not depend on how the teacher is fitted."""
    common = ("labels_alone", "--config", chain.config, "--run.dir")
    whole = load_file(finished / "labels_alone/last.safetensors")
    for name, options, same in (
        ("one", ("--teacher.shots", 1), False),
        ("all", ("--teacher.epochs", 3, "--student.source", "online"), True),
    ):
        made = run_cli(*common, tmp_path / name, *options)
        assert made.returncode == 0, made.stderr
        weights = load_file(tmp_path / name / "labels_alone/last.safetensors")
        assert torch.equal(weights["classify.weight"], whole["classify.weight"]) == same


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_references_that_were_trained_otherwise_are_not_compared(chain, run, overwrite, capsys):
    """Else the report would say one thing of them, and show another."""
    said = refused(
        capsys, "compare", "--config", chain.config, "--run.dir", run, "--teacher.shots", 1,
        "--run.overwrite", overwrite,
    )  # fmt: skip
    assert "labels_alone was made with another config (config.shots: 0, now 1)" in said
    assert "run `train.py labels_alone --run.overwrite true`" in said
    assert (run / "compare/comparison.json").exists()


def test_a_student_of_an_older_teacher_is_not_compared_with_the_new_one(chain, run):
    common = ("--config", chain.config, "--run.dir", run, "--run.overwrite", "true")
    made = run_cli("teacher", *common, "--teacher.epochs", 2)
    assert made.returncode == 0, made.stderr
    made = run_cli("student", *common)
    assert made.returncode == 2
    assert "label, which was made from another" in made.stderr
    assert "run `train.py label --run.overwrite true`" in made.stderr
    shutil.rmtree(run / "teacher")  # what was made from it stays
    made = run_cli("student", *common)
    assert "done already" in made.stdout, made.stderr


def test_too_few_faces_for_a_supervised_network_are_refused_at_once(chain, tmp_path, capsys):
    said = refused(
        capsys, "distill", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--compare.supervised_images", 8,
    )  # fmt: skip
    assert "compare.supervised_images is 8" in said
    assert not (tmp_path / "run").exists()


def test_pictures_that_are_not_stored_cannot_be_labelled_better(student_folder):
    config = Config(
        sources=Sources(annotator=student_folder, test_annotations=student_folder),
        student=StudentStage(source="online"),
    )
    assert references(config) == ("labels_alone",)
    assert "no stored pictures" in str(left_out("perfect_teacher", config))
    assert left_out("labels_alone", config) is None


@pytest.mark.parametrize("name", ["held_out", "rivals", "mine.too", "mine_inverted"])
def test_names_of_test_sets_that_mean_something_else_are_refused(name, tmp_path):
    test_set = TestSet(tmp_path, tmp_path)
    with pytest.raises(UserError, match=f"a set cannot be named {name}"):
        Comparison(CompareStage(), TeacherStage(), {name: test_set})


@pytest.mark.parametrize("word", ["", "local-dir:"])
def test_networks_in_folders_are_known_by_their_contents(student_folder, tmp_path, word):
    """So that they may be moved."""
    here = CompareStage(
        perceptual_network=f"{word}{student_folder}", frozen_features=FrozenConfig("resnet10t")
    )
    assert here.folders == {"maps": student_folder}
    moved = shutil.copytree(student_folder, tmp_path / "moved")
    there = CompareStage(
        perceptual_network=f"{word}{moved}", frozen_features=FrozenConfig("resnet10t")
    )
    assert here.without_folders() == there.without_folders() != here
    assert here.without_folders().at(there.folders) == there


def test_a_comparison_without_pictures_is_refused(chain, run, capsys):
    said = refused(
        capsys, "compare", "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--compare.held_out_images", 0, "--sources.test_annotations", "null",
    )  # fmt: skip
    assert "there is no test set" in said
    assert (run / "compare/comparison.json").exists()


def test_an_annotator_of_other_classes_is_refused_at_once(chain, student_folder, tmp_path, capsys):
    shutil.copytree(student_folder, tmp_path / "other")
    about = read_json(tmp_path / "other/student.json")
    write_json(
        tmp_path / "other/student.json", about | {"classes": [*about["classes"][:-1], "hat"]}
    )
    said = refused(
        capsys, "distill", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotator", tmp_path / "other",
    )  # fmt: skip
    assert "sources.annotator" in said and "hat" in said
    assert not (tmp_path / "run").exists()


def test_another_exported_segmenter_has_a_row(chain, finished, run):
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
        ("theirs", b"no network", "no ONNX file that ONNX Runtime can run"),
        ("theirs", FLOATS, "takes x tensor(float)"),
        ("theirs", LOGITS, "gives [2, 3, 64, 64] for pictures"),
        ("theirs", OTHER_CLASSES, "the run has 8: 0 background to 7 ear"),
        ("theirs", ONE_SIZE, "does not take pictures [2, 3, 64, 64]"),
    ],
    ids=["own row", "no ONNX", "floats", "logits", "other classes", "one size"],
)
def test_a_rival_that_cannot_be_asked_is_refused(
    chain, finished, run, tmp_path, name, content, message, capsys
):
    file = finished / "export/student/student.onnx"
    if content is not None:
        file = tmp_path / "other.onnx"
        file.write_bytes(content)
    said = refused(
        capsys, "compare", "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--sources.rivals", json.dumps({name: str(file)}),
    )  # fmt: skip
    assert message in said
    assert (run / "compare/comparison.json").exists()  # nothing is replaced by what is refused
