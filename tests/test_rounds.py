"""Teacher and student teach each other: whole small runs of two rounds."""

import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from common.files import read_json
from common.stage_folder import artifact_hash, read_manifest
from datasets.labels import LabelSet
from datasets.pseudo_labels import AGREEMENT, read_scores
from student.network import load_probabilities
from teacher.consensus import open_disagreement
from teacher.generators.choosing import highest_scores
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from tests.conftest import (
    OWN_ANSWER,
    Chain,
    Completed,
    command_line,
    killed_at,
    made_once,
    ranks,
    run_cli,
)

ROUNDS = ("--rounds.count", 2, "--rounds.teacher.epochs", 2, "--rounds.student.steps", 6)


def distill(chain: Chain, run: Path, *options: object, launcher: tuple[str, ...] = ()) -> Completed:
    made = run_cli(
        "distill", "--config", chain.config, "--run.dir", run, *ROUNDS, *options, launcher=launcher
    )
    assert made.returncode == 0, made.stderr
    return made


def payload(folder: Path) -> dict[str, str]:
    """Hashes of what a stage made."""
    return dict(read_manifest(folder)["files"])


@pytest.fixture(scope="module")
def rounds(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds."""

    def make(run: Path) -> None:
        (run / "printed.txt").write_text(distill(chain, run).stdout)

    return made_once(tmp_path_factory, "rounds", make)


def test_the_first_round_is_a_run_without_rounds(rounds: Path, finished: Path) -> None:
    for stage in ("teacher", "label", "student"):
        assert payload(rounds / stage) == payload(finished / stage), stage


def test_the_last_round_is_exported_and_compared_beside_the_first(rounds: Path) -> None:
    last = rounds / "round-2"
    read = read_json(rounds / "compare/config.json")["inputs"]
    for name in ("teacher", "student"):
        assert read[name] == artifact_hash(last / name)
        assert read[f"{name}_round_1"] == artifact_hash(rounds / name)
    assert read_json(rounds / "export/config.json")["inputs"]["student"] == read["student"]
    sets = read_json(rounds / "compare/comparison.json")["test_sets"]
    assert {"teacher", "teacher_round_1", "student_round_1"} <= set(sets["generated"]["models"])
    assert "student_round_1" in sets["held_out"]["models"]


def test_each_round_says_how_both_agree_and_what_became_of_the_classes(rounds: Path) -> None:
    agreement = read_manifest(rounds / "round-2/label")["figures"]["agreement"]
    shares = read_scores(rounds / "round-2/label", 5, AGREEMENT)
    assert len(shares) == 40 and agreement == pytest.approx(sum(shares) / 40)
    verdict = read_manifest(rounds / "round-2/student")["figures"]["round"]
    assert set(verdict["miou"]) == {"annotations", "test_annotations"}
    for when in (0, 1):
        assert sum(pair[when] for pair in verdict["shares"].values()) == pytest.approx(1)
    assert read_json(rounds / "compare/comparison.json")["rounds"] == [verdict]
    assert "The student&#39;s rounds" in (rounds / "compare/report.html").read_text()
    printed = (rounds / "printed.txt").read_text()
    assert "The student's rounds" in printed
    assert f"agree on {100 * agreement:.1f} % of the pixels" in printed
    assert "student: mIoU" in printed


def test_a_later_round_labels_other_samples(rounds: Path) -> None:
    first, last = (rounds / part / "label/shard-00000.zip" for part in (".", "round-2"))
    assert first.read_bytes() != last.read_bytes()
    assert read_json(rounds / "round-2/label/config.json")["config"]["label"]["seed"] == 101_000


def test_a_killed_round_goes_on_to_the_same_bytes(
    chain: Chain, rounds: Path, tmp_path: Path
) -> None:
    for stage in ("teacher", "label", "student"):
        shutil.copytree(rounds / stage, tmp_path / stage)
    command = command_line("distill", "--config", chain.config, "--run.dir", tmp_path, *ROUNDS)
    for moment in (
        "round-2/teacher/checkpoints/state-2*", "round-2/label/shard-00001.zip",
        "round-2/student/checkpoints/state-3*",
    ):  # fmt: skip
        killed_at(moment, tmp_path, command)
    distill(chain, tmp_path)
    for stage in ("teacher", "label", "student"):
        made, whole = (payload(run / "round-2" / stage) for run in (tmp_path, rounds))
        assert made == whole, stage


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_student_that_learns_from_its_average_goes_on_to_the_same_bytes(
    chain: Chain, finished: Path, tmp_path: Path, workers: int
) -> None:
    for name in ("whole", "killed"):
        for stage in ("teacher", "label"):
            shutil.copytree(finished / stage, tmp_path / name / stage)
    common = ("student", "--config", chain.config, *OWN_ANSWER, "--student.workers", workers)
    killed = ("--run.dir", tmp_path / "killed")
    for step in (3, 6):
        killed_at(
            f"student/checkpoints/state-{step}*",
            tmp_path / "killed",
            command_line(*common, *killed),
        )
    for run in (killed, ("--run.dir", tmp_path / "whole")):
        made = run_cli(*common, *run)
        assert made.returncode == 0, made.stderr
    assert payload(tmp_path / "killed/student") == payload(tmp_path / "whole/student")


def test_two_ranks_teach_each_other_online(chain: Chain, tmp_path: Path) -> None:
    made = distill(
        chain, tmp_path, "--student.source", "online", "--label.top_k", 8,
        "--student.targets", "soft", *OWN_ANSWER, launcher=ranks(2),
    )  # fmt: skip
    assert "label: skipped" in made.stdout
    later = read_manifest(tmp_path / "round-2/student")
    assert later["processes"] == 2
    assert later["config"]["online"]["consensus"]["teacher_weight"] == 0.2
    recipe = later["config"]["recipe"]
    assert recipe["own_answer"]["after"] == 0
    assert (tmp_path / "export/student/student.onnx").exists()


def test_a_round_that_is_worse_is_not_taken(chain: Chain, rounds: Path, tmp_path: Path) -> None:
    for stage in ("teacher", "label"):
        shutil.copytree(rounds / stage, tmp_path / stage)
    made = distill(
        chain, tmp_path, "--rounds.teacher.learning_rate", 10, "--rounds.student.learning_rate", 10,
        "--student.steps", 120, "--student.val_every", 60, "--rounds.student.steps", 4,
    )  # fmt: skip
    assert "warning: the teacher that learned from the student is worse" in made.stdout
    assert "warning: the student of this round is worse" in made.stdout
    assert (
        "validation pixels, the student of the round before" in made.stdout
    )  # classes that shrank
    last = tmp_path / "round-2"
    for name in ("teacher", "student"):
        weights = f"{name}.safetensors"
        assert payload(last / name)[weights] == payload(tmp_path / name)[weights]
    assert read_manifest(last / "teacher")["figures"]["taken"] is False
    assert read_manifest(last / "student")["figures"]["round"]["taken"] is False


def test_a_teacher_that_is_judged_on_what_it_learned_may_lose_a_little(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    """The first teacher learned these samples alone, so a later one is rarely as good on them."""
    config = yaml.safe_load(chain.config.read_text())
    del config["sources"]["test_annotations"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    made = run_cli(
        "teacher", "--config", tmp_path / "config.yaml", "--run.dir", tmp_path,
        "--sources.teacher", finished / "teacher", "--sources.student", finished / "student",
        "--rounds.teacher.learning_rate", 1e-9, "--rounds.teacher.epochs", 1,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    manifest = read_manifest(tmp_path / "teacher")
    assert manifest["figures"]["taken"] and "its own samples" in manifest["figures"]
    assert manifest["config"]["truncation"] == 1.0


def test_a_student_of_another_shape_is_refused(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    before = ("--sources.teacher", finished / "teacher", "--sources.student", finished / "student")
    common = ("--config", chain.config, "--run.dir", tmp_path, *before)
    for stage in ("teacher", "label"):
        made = run_cli(stage, *common, "--rounds.teacher.epochs", 0)
        assert made.returncode == 0, made.stderr
    wider = ("--student.network.decoder_width", 12)
    made = run_cli("student", *common, *wider)
    assert made.returncode == 2
    assert "student has another network than student.network" in made.stderr
    assert not (tmp_path / "student").exists()
    made = run_cli("student", *common, *wider, "--rounds.student.from_weights", "false")
    assert made.returncode == 0, made.stderr


def test_samples_are_chosen_by_what_teacher_and_student_differ_on(
    chain: Chain, finished: Path, labels: LabelSet, tmp_path: Path
) -> None:
    common = (
        "sample", "--config", chain.config, "--count", 30, "--choose", 1,
        "--choose_by", "disagreement", "--out", tmp_path / "samples",
    )  # fmt: skip
    made = run_cli(*common)
    assert made.returncode == 2 and "compares two models: name finished folders" in made.stderr
    paths = (finished / "teacher", finished / "student")
    made = run_cli(*common, "--sources.teacher", paths[0], "--sources.student", paths[1])
    assert made.returncode == 0, made.stderr

    generator = load_generator(chain.generator)
    score = open_disagreement(*paths, labels, generator, load_probabilities)
    source = latents_of_seed(generator, 0, 1.0)
    with torch.no_grad():
        scores = [float(score(*generator.synthesise(source([n])))) for n in range(30)]
    most = sorted(range(30), key=lambda n: -scores[n])[:10]
    (chosen,) = read_json(tmp_path / "samples/samples.json")["origin"]["indices"]
    assert chosen in most
    ranked = highest_scores(generator, source, range(30), score, 4)
    assert ranked == sorted(most[:4])
    assert min(scores) >= 0 and max(scores) <= math.log(2)


def test_a_student_without_its_teacher_is_refused(chain: Chain, finished: Path) -> None:
    made = run_cli("label", "--config", chain.config, "--sources.student", finished / "student")
    assert made.returncode == 2
    assert "name sources.teacher too" in made.stderr


@pytest.mark.parametrize(
    ("option", "value", "stage"),
    [("student.steps", 0, "student"), ("teacher.epochs", -1, "teacher"), ("count", 0, "teacher")],
)
def test_counts_of_later_rounds_are_checked(
    chain: Chain, finished: Path, tmp_path: Path, option: str, value: int, stage: str
) -> None:
    made = run_cli(
        stage, "--config", chain.config, "--run.dir", tmp_path, f"--rounds.{option}={value}",
        "--sources.teacher", finished / "teacher", "--sources.student", finished / "student",
    )  # fmt: skip
    assert made.returncode == 2
    assert f"rounds.{option} is {value}" in made.stderr


def test_unlabelled_photographs_must_be_named(chain: Chain, tmp_path: Path) -> None:
    made = run_cli(
        "distill", "--config", chain.config, "--run.dir", tmp_path, "--student.own_answer.unlabelled",
        "photographs",
    )  # fmt: skip
    assert made.returncode == 2
    assert "sources.photographs is not set" in made.stderr
    assert not (tmp_path / "teacher").exists()
