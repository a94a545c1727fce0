"""The networks that the student is held against, through the command line."""

import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.files import read_json, write_json
from evaluation.references import recipe_for_few, recipe_of
from evaluation.rows import REFERENCES
from pipeline.config import Config, Sources
from pipeline.stages import STAGES
from student.recipe import OwnAnswer, StudentStage
from tests.conftest import Chain, run_cli
from tests.evaluation.conftest import Refused


def test_the_rows_that_are_asked_for_stand_beside_the_others(
    chain: Chain, finished: Path, run: Path, student_folder: Path
) -> None:
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


def test_labels_alone_sees_the_samples_that_the_teacher_saw(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
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


def test_too_few_faces_for_a_supervised_network_are_refused_at_once(
    chain: Chain, tmp_path: Path, refused: Refused
) -> None:
    message = refused(
        "distill", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--compare.supervised_images", 8,
    )  # fmt: skip
    assert "compare.supervised_images is 8" in message
    assert not (tmp_path / "run").exists()


def test_images_that_are_not_stored_cannot_be_labelled_better(student_folder: Path) -> None:
    config = Config(
        sources=Sources(
            annotator=student_folder, annotations=student_folder, test_annotations=student_folder
        ),
        student=StudentStage(source="online"),
    )
    assert config.references == ("labels_alone",)
    assert "no stored images" in str(STAGES["perfect_teacher"].skip(config))
    assert STAGES["labels_alone"].skip(config) is None


def test_a_comparison_without_images_is_refused(chain: Chain, run: Path, refused: Refused) -> None:
    message = refused(
        "compare", "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--compare.held_out_images", 0, "--sources.test_annotations", "null",
    )  # fmt: skip
    assert "there is no test set" in message
    assert (run / "compare/comparison.json").exists()


def test_an_annotator_of_other_classes_is_refused_at_once(
    chain: Chain, student_folder: Path, tmp_path: Path, refused: Refused
) -> None:
    shutil.copytree(student_folder, tmp_path / "other")
    about = read_json(tmp_path / "other/student.json")
    write_json(
        tmp_path / "other/student.json", about | {"classes": [*about["classes"][:-1], "hat"]}
    )
    message = refused(
        "distill", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotator", tmp_path / "other",
    )  # fmt: skip
    assert "sources.annotator" in message and "hat" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("batch", "samples", "processes", "parts", "smaller"),
    [
        (32, 3, 1, 1, 8),
        (32, 3, 8, 1, 8),
        (32, 3, 8, 2, 16),  # each of 8 processes takes two parts
        (32, 1, 1, 1, 8),
        (32, 30, 1, 1, 32),
        (48, 5, 1, 1, 12),
        (9, 1, 1, 1, 9),
    ],
)
def test_few_samples_have_small_batches(
    batch: int, samples: int, processes: int, parts: int, smaller: int
) -> None:
    recipe = StudentStage(batch_size=batch, grad_accumulation_steps=parts, steps=900)
    few = recipe_for_few(recipe, samples, processes)
    assert few.batch_size == smaller
    assert few.steps == (600 if smaller < batch else 900)


def test_references_see_as_many_images_a_step_as_the_student() -> None:
    own = OwnAnswer(teacher_weight=0.4, unlabelled="rendered", unlabelled_batch=12)
    assert recipe_of(StudentStage(batch_size=20, own_answer=own)).batch_size == 32
    alone = OwnAnswer(teacher_weight=0.4, unlabelled_batch=12)
    assert recipe_of(StudentStage(batch_size=20, own_answer=alone)).batch_size == 20
