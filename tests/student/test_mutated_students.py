"""Folders of students that were damaged: a network or one sentence."""

import shutil
from pathlib import Path

import pytest
import torch

from common.stage_folder import artifact_hash
from student.network import load_student
from tests.mutations import check


@pytest.mark.parametrize(
    ("name", "times"), [("student.json", 300), ("student.safetensors", 60), ("config.json", 100)]
)
def test_students(student_folder: Path, tmp_path: Path, name: str, times: int) -> None:
    shutil.copytree(student_folder, tmp_path / "s")

    def load(_: Path) -> tuple[int, ...]:
        artifact_hash(tmp_path / "s")
        student, about = load_student(tmp_path / "s")
        return (*student(torch.zeros(1, 3, 16, 16)).shape, len(about["classes"]))

    check(tmp_path / "s" / name, load, lambda found: found == (1, 8, 16, 16, 8), times=times)
