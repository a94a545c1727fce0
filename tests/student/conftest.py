"""An exported student, made once."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import made_once, run_cli


@pytest.fixture(scope="session")
def exported(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to be sent around, far away from the run that it was made in."""

    def make(folder: Path) -> None:
        made = run_cli("export", "--run.dir", student_folder.parent, "--export.int8_max_loss", 1.0)
        assert made.returncode == 0, made.stderr
        shutil.copytree(student_folder.parent / "export/student", folder / "student")

    return made_once(tmp_path_factory, "sent", make) / "student"
