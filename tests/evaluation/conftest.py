"""A finished run to change, and what the command line prints when it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from train import main

Refused = Callable[..., str]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command line on arguments that it refuses; returns what it prints."""

    def run_and_read(*arguments: object) -> str:
        assert main([*map(str, arguments)]) == 2
        return capsys.readouterr().err

    return run_and_read
