"""What a run takes up, refuses and leaves out."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from pipeline.config import Config, Run, Sources
from pipeline.rounds import Step
from pipeline.run import check_steps, stage_inputs
from pipeline.stages import STAGES
from student.recipe import StudentStage
from tests.conftest import Chain, run_cli

EMPTY = Config(run=Run(Path("runs/none")))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def test_what_was_made_from_another_input_is_refused(chain: Chain, run: Path) -> None:
    """A student of an older teacher's labels is not taken for one of the new teacher's."""
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


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_references_that_were_trained_otherwise_are_not_compared(
    chain: Chain, run: Path, overwrite: str
) -> None:
    """Else the report would have their config, and figures of another."""
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", run, "--teacher.shots", 1,
        "--run.overwrite", overwrite,
    )  # fmt: skip
    assert made.returncode == 2
    assert "labels_alone was made with another config (config.shots: 0, now 1)" in made.stderr
    assert "run `train.py labels_alone --run.overwrite true`" in made.stderr
    assert (run / "compare/comparison.json").exists()


def test_an_unfinished_input_names_the_command_that_makes_it(chain: Chain, run: Path) -> None:
    (run / "label/manifest.json").unlink()
    made = run_cli("student", "--config", chain.config, "--run.dir", run)
    assert made.returncode == 2
    assert "run `train.py label` with the same config first" in made.stderr


def test_a_source_that_is_not_there_is_refused_before_any_stage_runs(
    chain: Chain, tmp_path: Path
) -> None:
    made = run_cli(
        "distill", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.test_annotations", tmp_path / "none",
    )  # fmt: skip
    assert made.returncode == 2
    assert f"{tmp_path / 'none'} does not exist" in made.stderr
    assert not (tmp_path / "run").exists()


def test_what_a_stage_reads_must_be_named() -> None:
    with pytest.raises(UserError, match=r"sources\.annotations is not set"):
        stage_inputs("teacher", EMPTY)
    with pytest.raises(UserError, match=r"sources\.annotations is not set"):
        check_steps([Step("teacher", EMPTY)])


def test_a_stage_that_is_not_needed_says_why() -> None:
    assert STAGES["generator"].skip(EMPTY) is None
    given = Config(sources=Sources(generator=Path("assets/faces64/generator")))
    assert STAGES["generator"].skip(given) == "given, assets/faces64/generator"
    online = Config(student=StudentStage(source="online"))
    assert "while the student trains" in str(STAGES["label"].skip(online))
    assert STAGES["label"].skip(EMPTY) is None


def test_stages_for_the_comparison_are_left_out_without_a_word() -> None:
    """Few runs want them."""
    for name in ("supervised", "perfect_teacher", "inversion_encoder", "labels_alone"):
        assert STAGES[name].skip(EMPTY) == ""
    annotated = replace(EMPTY, sources=replace(EMPTY.sources, annotations=Path("somewhere")))
    assert STAGES["labels_alone"].skip(annotated) is None
