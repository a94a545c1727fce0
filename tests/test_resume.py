"""Processes that are killed, interrupted or cut short: the same command goes on to the same result."""

import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from common.files import read_json
from tests.conftest import (
    ROOT,
    Chain,
    command_line,
    environment,
    killed_at,
    run_cli,
    run_process,
    wait_for,
)


def figures(run: Path) -> dict[str, Any]:
    """Everything a run measured, but its times."""
    result: dict[str, Any] = read_json(run / "compare/comparison.json")["test_sets"]
    for test in result.values():
        test.pop("seconds_in_batches", None)
        for row in test["models"].values():
            del row["seconds_per_image"]
        for against in test["student_minus"].values():
            del against["times_faster"]
    return result


def assert_same_weights(mine: Path, theirs: Path, names: Iterable[str]) -> None:
    for name in names:
        ours, others = load_file(mine / name), load_file(theirs / name)
        assert all(torch.equal(ours[tensor], others[tensor]) for tensor in others)


def step_of(state: Path) -> int:
    """Of a checkpoint, by its name."""
    return int(state.stem.partition("-")[2])


def test_killed_in_every_stage_it_ends_with_the_same_figures(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = command_line("distill", "--config", chain.config, "--run.dir", run)
    for moment in (
        "teacher/checkpoints/state-2*", "label/shard-00001.zip", "student/checkpoints/state-6*",
        "export/config.json", "labels_alone/checkpoints/state-3*",
        "compare/checkpoints/inversion_generated/state-*",
    ):  # fmt: skip
        killed_at(moment, run, command)
    last = run_process(command)
    assert last.returncode == 0, last.stderr
    assert figures(run) == figures(finished)
    assert_same_weights(
        run, finished, ("teacher/teacher.safetensors", "student/student.safetensors")
    )
    for shard in finished.glob("label/*.zip"):
        assert (run / "label" / shard.name).read_bytes() == shard.read_bytes()


def test_a_killed_generator_goes_on_to_the_same_weights(chain: Chain, tmp_path: Path) -> None:
    command = ("generator", "--config", chain.config, "--run.dir", tmp_path)
    killed_at("generator/checkpoints/state-16*", tmp_path, command_line(*command))
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    assert "resumed at image" in made.stdout
    weights = "generator.safetensors"
    assert_same_weights(tmp_path / "generator", chain.generator, [weights])
    kept = load_file(tmp_path / "generator" / weights)
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_ctrl_c_stops_with_one_line(chain: Chain, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command_line(
            "student", "--config", chain.config, "--run.dir", tmp_path,
            "--student.source", "faces", "--student.faces", 100, "--student.steps", 100000,
        ),
        cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Tests that run in the background of a shell have inherited deafness to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for("student/checkpoints/state-3*", tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from the last checkpoint" in errors
    assert "Traceback" not in errors


def test_a_student_resumes_exactly_past_a_damaged_checkpoint(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    """Online samples, killed, and the newest checkpoint cut short, as by a disk that gave up."""
    command = (
        "student", "--config", chain.config, "--student.source", "online", "--label.count", 10**6,
    )  # fmt: skip
    for name in ("whole", "killed"):
        shutil.copytree(finished / "teacher", tmp_path / name / "teacher")
    run = tmp_path / "killed"
    killed_at("student/checkpoints/state-6*", run, command_line(*command, "--run.dir", run))
    states = sorted((run / "student/checkpoints").glob("state-*.safetensors"), key=step_of)
    assert len(states) == 2
    states[-1].write_bytes(states[-1].read_bytes()[:-1000])
    again = run_cli(*command, "--run.dir", run)
    assert f"{states[-1].name} is damaged" in again.stdout, again.stderr
    assert f"resumed at step {step_of(states[0])}" in again.stdout
    whole = run_cli(*command, "--run.dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert_same_weights(
        run, tmp_path / "whole", ("student/student.safetensors", "student/last.safetensors")
    )
    assert not list(tmp_path.rglob("*.zip"))
