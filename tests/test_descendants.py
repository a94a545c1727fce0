"""A generator that goes on from another one, and the teacher of that one, which goes along."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.faces import render_faces
from datasets.labels import LabelSet
from datasets.portrait.world import STREET
from evaluation.options import CompareStage
from pipeline.config import Config, Sources
from pipeline.depends import compare_inputs
from tests.conftest import Chain, chain_config, draw_masks, made_once, run_cli

COUNT, KEPT_BACK = 24, 6


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for i, face in enumerate(render_faces(1, torch.arange(COUNT), 16, STREET)[0]):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def config(
    chain: Chain, finished: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The chain's config for a generator that goes on from its own on photographs, with its teacher."""
    values = chain_config(chain.folder)
    values["sources"] = {
        "labels": values["sources"]["labels"],
        "photographs": str(photographs),
        "kept_back": KEPT_BACK,
        "teacher": str(finished / "teacher"),
    }
    values["generator"] |= {"start": str(chain.generator), "images": 16, "save_every": 16}
    values["compare"]["held_out_images"] = 0
    values["student"] |= {
        "own_answer": {"unlabelled": "photographs", "unlabelled_batch": 8, "after": 2}
    }
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def adapted(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run without a single mask, in two rounds."""

    def make(run: Path) -> None:
        made = run_cli("distill", "--config", config, "--run.dir", run, "--rounds.count", 2)
        assert made.returncode == 0, made.stderr
        (run / "stdout.txt").write_text(made.stdout)

    return made_once(tmp_path_factory, "adapted", make)


def test_a_run_without_a_mask(adapted: Path, chain: Chain, finished: Path) -> None:
    told = (adapted / "stdout.txt").read_text()
    assert f"teacher: given, {finished / 'teacher'}" in told
    for folder in ("generator", "label", "student", "round-2/label", "round-2/student"):
        assert (adapted / folder / "manifest.json").exists(), folder
    assert (adapted / "export/student/student.onnx").exists()
    assert not list(adapted.glob("**/teacher"))
    labelled = read_json(adapted / "round-2/label/manifest.json")["inputs"]
    assert labelled["teacher"] == artifact_hash(finished / "teacher")
    assert labelled["generator"] == artifact_hash(adapted / "generator")
    grown = read_json(adapted / "generator/manifest.json")["figures"]
    assert grown["ancestors"] == [artifact_hash(chain.generator)]
    judged = read_json(adapted / "round-2/student/manifest.json")["figures"]["round"]
    assert judged["taken"] is True and judged["miou"] == {}
    assert 0 < judged["agreement"] <= 1


def test_what_photographs_are_is_told_first(adapted: Path) -> None:
    told = (adapted / "stdout.txt").read_text()
    assert f"{COUNT - KEPT_BACK} photographs of" in told and f"{KEPT_BACK} kept back" in told
    for stage in ("generator", "student"):
        about = read_json(adapted / stage / "photographs.json")
        assert about["count"] == COUNT - KEPT_BACK and "framing" in about
        assert (adapted / stage / "photographs.png").exists()
        # They say nothing of the stage's result: its identity is without them.
        assert "photographs.png" not in read_json(adapted / stage / "manifest.json")["files"]


def test_the_report_of_a_run_without_a_mask(adapted: Path, labels: LabelSet) -> None:
    compared = read_json(adapted / "compare/comparison.json")
    assert compared["test_sets"] == {}
    seen = compared["photographs"]
    assert seen["images"] == KEPT_BACK and 0 < seen["mirrored"] <= 1
    assert list(seen["shares"]) == list(labels.names)
    for number in (0, 1):
        assert sum(pair[number] for pair in seen["shares"].values()) == pytest.approx(1)
    manifest = read_json(adapted / "compare/manifest.json")
    assert {"comparison.json", "report.html", "kept_back.png"} == set(manifest["files"])
    assert manifest["inputs"]["pseudo_labels"] == artifact_hash(adapted / "round-2/label")
    report = (adapted / "compare/report.html").read_text()
    assert "it is not known how often the student is right" in report
    assert "The photographs before training" in report
    assert "Samples of the generator with the teacher" in report
    told = (adapted / "stdout.txt").read_text()
    assert f"{KEPT_BACK} photographs kept back, without masks" in told


def test_nothing_is_trained_to_compare_with_where_there_is_no_test_set(tmp_path: Path) -> None:
    """With annotations, but without a test set, the report looks at the photographs alone."""
    sources = Sources(photographs=tmp_path, kept_back=3, annotations=tmp_path)
    config = Config(sources=sources, compare=CompareStage(held_out_images=0))
    assert "labels_alone" not in compare_inputs(config)
    assert "photographs" in compare_inputs(config)
    tested = replace(config, compare=CompareStage(held_out_images=5))
    assert "labels_alone" in compare_inputs(tested)


def test_photographs_are_kept_back_only_where_there_are_some(tmp_path: Path) -> None:
    made = run_cli("compare", "--run.dir", tmp_path, "--sources.kept_back", 3)
    assert made.returncode == 2
    assert "sources.kept_back is 3" in made.stderr and "name them" in made.stderr


def test_it_is_done_again_in_no_time(adapted: Path, config: Path) -> None:
    again = run_cli("distill", "--config", config, "--run.dir", adapted, "--rounds.count", 2)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already") >= 5


def test_the_teacher_of_another_generator_is_refused(
    chain: Chain, config: Path, finished: Path, tmp_path: Path
) -> None:
    other = ["--run.dir", tmp_path / "other", "--generator.images", "16", "--generator.seed", "9"]
    made = run_cli("generator", "--config", chain.config, *other)
    assert made.returncode == 0, made.stderr
    given = ["--sources.generator", tmp_path / "other/generator"]
    made = run_cli("label", "--config", config, "--run.dir", tmp_path / "run", *given)
    assert made.returncode == 2
    assert "was trained on the features of another generator" in made.stderr
    assert not (tmp_path / "run/label").exists()
    models = [f"--sources.{name}={finished / name}" for name in ("teacher", "student")]
    drawn = [
        "--count",
        4,
        "--choose",
        1,
        "--choose_by",
        "disagreement",
        "--out",
        tmp_path / "drawn",
    ]
    made = run_cli("sample", "--config", chain.config, *given, *models, *drawn)
    assert made.returncode == 2
    assert "was trained on the features of another generator" in made.stderr


def test_a_teacher_goes_on_with_masks_of_the_new_generator(
    adapted: Path, config: Path, finished: Path, labels: LabelSet, tmp_path: Path
) -> None:
    generator = ["--sources.generator", adapted / "generator"]
    made = run_cli("sample", *generator, "--count", 3, "--seed", 5, "--out", tmp_path / "new")
    assert made.returncode == 0, made.stderr
    draw_masks(tmp_path / "new", labels)
    options = ["--sources.annotations", tmp_path / "new", "--rounds.teacher.epochs", 1]
    made = run_cli(
        "teacher", "--config", config, "--run.dir", tmp_path / "run", *generator, *options
    )
    assert made.returncode == 0, made.stderr
    manifest = read_json(tmp_path / "run/teacher/manifest.json")
    assert manifest["inputs"]["teacher_before"] == artifact_hash(finished / "teacher")
    assert "student_before" not in manifest["inputs"]
    weights = [
        (folder / "teacher.safetensors").read_bytes()
        for folder in (tmp_path / "run/teacher", finished / "teacher")
    ]
    assert manifest["figures"]["taken"] is (weights[0] != weights[1])


def test_a_teacher_that_says_nothing_of_its_generator_is_refused(
    adapted: Path, config: Path, finished: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(finished / "teacher", tmp_path / "teacher")
    (bare / "manifest.json").unlink()
    given = ["--sources.generator", adapted / "generator", "--sources.teacher", bare]
    made = run_cli("label", "--config", config, "--run.dir", tmp_path / "run", *given)
    assert made.returncode == 2
    assert "manifest.json" in made.stderr
