"""What people mistype and forget: one sentence, exit code 2, and nothing made."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Chain, command_line, run_cli, run_process
from train import main

_FACES = (
    "student", "--config", "{config}", "--run.dir", "{tmp}", "--student.source", "faces",
)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["student", "--student.sorce", "faces"], "--student.sorce"),
        (["student", "--student.steps", "many"], "student.steps"),
        (["student", "--config", "configs/none.yaml"], "none.yaml"),
        (["label", "--config", "{config}", "--run.dir", "{tmp}"], "train.py teacher"),
        (["compare", "--config", "{config}", "--run.dir", "{tmp}"], "train.py teacher"),
        (["export", "--config", "{config}", "--run.dir", "{tmp}"], "train.py student"),
        (["teacher", "--run.dir", "{tmp}", "--sources.generator", "{gen}"], "sources.annotations"),
        (
            ["teacher", "--config", "{config}", "--run.dir", "{tmp}", "--sources.labels", "no.yaml"],
            "no.yaml does not exist",
        ),
        (["generator", "--generator.batch_size", "6", "--run.dir", "{tmp}"], "multiple of four"),
        (["generator", "--generator.images", "20"], "generator.images is 20, less than a batch (32)"),
        (["generator", "--generator.save_every", "0"], "generator.save_every is 0"),
        (["teacher", "--teacher.val_every", "0"], "teacher.val_every is 0"),
        (["student", "--student.val_every", "0"], "student.val_every is 0"),
        (
            ["inversion_encoder", "--inversion_encoder.val_every", "0"],
            "inversion_encoder.val_every is 0",
        ),
        (["compare", "--compare.timed_images", "0"], "compare.timed_images is 0"),
        ([*_FACES, "--student.faces", "5"], "student.val_images is 8"),
        ([*_FACES, "--student.targets", "soft"], "there are hard labels only"),
        (
            [*_FACES, "--student.grad_accumulation_steps", "3"],
            "student.batch_size is 8, not divisible by 1 processes x 3 parts",
        ),
        (
            ["label", "--config", "{config}", "--label.drop_uncertain", "1.5"],
            "label.drop_uncertain is 1.5",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_code_two(
    chain: Chain,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"config": chain.config, "tmp": tmp_path, "gen": chain.generator}
    assert main([a.format(**names) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1


def test_unknown_keys_of_a_config_are_named(tmp_path: Path) -> None:
    """Here in a process of its own: the exit code is the shell's, and nothing else is printed."""
    config = tmp_path / "c.yaml"
    config.write_text("student: {stepz: 5}\n")
    made = run_process(command_line("student", "--config", config))
    assert made.returncode == 2
    assert "student.stepz" in made.stderr
    assert made.stderr.startswith("error:") and "Traceback" not in made.stderr


def test_a_loss_that_is_no_number_stops_the_student_and_names_the_step(
    chain: Chain, tmp_path: Path
) -> None:
    made = run_cli(
        "student", "--config", chain.config, "--run.dir", tmp_path, "--student.source", "faces",
        "--student.faces", 20, "--student.learning_rate", 1e30, "--student.warmup_steps", 0,
    )  # fmt: skip
    assert made.returncode == 2
    assert re.search(r"the student's loss is (nan|inf) at step \d+ \(samples \[\d+, ", made.stderr)
    assert not (tmp_path / "student/manifest.json").exists()


def test_a_dry_run_prints_the_plan_and_makes_nothing(chain: Chain, tmp_path: Path) -> None:
    made = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path / "x", "--dry-run")
    assert made.returncode == 0, made.stderr
    plan, _, stages = made.stdout.rpartition("\n}\n")
    assert json.loads(plan + "\n}")["student"]["steps"] == 12
    assert f"writes {tmp_path / 'x' / 'export'}" in stages
    assert not (tmp_path / "x").exists()
