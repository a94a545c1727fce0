"""Real launchers that name a precision, beside our own option: one decides, and says so."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.files import read_json
from tests.conftest import ROOT, Chain, Completed, environment, run_cli

_LAUNCH = (
    sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--num_processes", "1",
    "--dynamo_backend", "no",
)  # fmt: skip
ASKED = "accelerate launch asks for bf16: student.precision is bf16, generator.precision stays no"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A config that leaves the precision of the student open."""
    config = tmp_path / "bare.yaml"
    config.write_text(
        "generator: {precision: 'no'}\n"
        "student: {source: faces, faces: 24, resolution: 16, steps: 2, batch_size: 8, val_images: 8,\n"
        "  val_every: 2, workers: 0, network: {encoder: resnet10t, levels: 2, decoder_width: 8}}\n"
    )
    return config


def launch(*arguments: object, launcher: tuple[str, ...] = (), **names: str) -> Completed:
    """`accelerate launch ... train.py student ...` with environment variables."""
    command = [*_LAUNCH, *launcher, "train.py", "student", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment() | names, capture_output=True, text=True, timeout=240
    )


def trained_in(run: Path) -> object:
    return read_json(run / "student/manifest.json")["config"]["recipe"]["precision"]


def test_the_launchers_precision_holds_where_the_option_is_left_out(
    bare: Path, tmp_path: Path
) -> None:
    run, options = tmp_path / "run", ("--config", bare, "--run.dir", tmp_path / "run")
    made = launch(*options, launcher=("--mixed_precision", "bf16"))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(ASKED) == 1
    assert trained_in(run) == "bf16"
    # Another command without it does not go on in another precision.
    refused = run_cli("student", *options)
    assert refused.returncode == 2
    assert 'precision: "bf16", now "no"' in refused.stderr


def test_a_launcher_that_names_none_leaves_it_to_the_option(bare: Path, tmp_path: Path) -> None:
    """Its default is `no`, and so is that of its config files here."""
    made = launch(
        "--config", bare, "--run.dir", tmp_path, "--student.precision", "bf16",
        launcher=("--config_file", "configs/accelerate/cpu.yaml"),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "accelerate launch asks" not in made.stdout
    assert trained_in(tmp_path) == "bf16"


def test_another_precision_than_the_launchers_is_refused(bare: Path, tmp_path: Path) -> None:
    made = launch(
        "--config", bare, "--run.dir", tmp_path, "--student.precision", "no",
        launcher=("--mixed_precision", "bf16"),
    )  # fmt: skip
    assert made.returncode != 0
    assert re.search(
        r"^error: student\.precision is no, but accelerate launch asks for bf16; [^.]+\.$",
        made.stderr, re.MULTILINE,
    )  # fmt: skip
    assert not (tmp_path / "student").exists()


def test_a_persons_own_config_of_accelerate_counts_like_the_option(
    bare: Path, tmp_path: Path
) -> None:
    (tmp_path / "accelerate").mkdir()
    text = (ROOT / "configs/accelerate/cpu.yaml").read_text()
    own = re.sub(r"mixed_precision:.*", "mixed_precision: bf16", text)
    (tmp_path / "accelerate/default_config.yaml").write_text(own)
    made = launch("--config", bare, "--run.dir", tmp_path / "run", HF_HOME=str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(ASKED) == 1
    assert trained_in(tmp_path / "run") == "bf16"


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, [], None),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, ["--student.precision", "bf16"], None),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["--student.precision", "bf16"], None),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ["--student.precision", "auto"], None),
        (
            {"ACCELERATE_MIXED_PRECISION": "fp8"}, [],
            "accelerate launch asks for the mixed precision fp8, which no stage computes in",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "fp16"}, [],
            "student.precision is bf16, but accelerate launch asks for fp16",
        ),
    ],
)  # fmt: skip
def test_option_and_launcher_in_a_config_file(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str],
    arguments: list[str], message: str | None,
) -> None:  # fmt: skip
    """The chain's config says bf16."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert os.environ.get("ACCELERATE_MIXED_PRECISION", "") == "".join(environment.values())
    made = run_cli("distill", "--config", chain.config, "--dry-run", *arguments)
    assert made.returncode == (2 if message else 0), made.stderr
    if message:
        assert message in made.stderr and made.stderr.count("\n") == 1
        return
    precision = "fp16" if "auto" in arguments else "bf16"
    assert f'"precision": "{precision}"' in made.stdout.partition('"student": {')[2]
