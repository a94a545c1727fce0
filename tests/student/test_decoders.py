"""A decoder that is added: a class and a line in the table, and the stage `student` trains it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.files import read_json
from common.stage_folder import StageFolder
from student.base import NetworkConfig, Student
from student.decoders import DECODERS
from student.fit import fit_student
from student.network import load_student
from student.recipe import StudentStage, StudentTraining
from tests.conftest import LABELS, SIZE


class OneConvolution(Student):
    """Logits from the finest map alone."""

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__(config, classes)
        self.classify = nn.Conv2d(sum(self.channels), classes, 1)

    def decode(self, x: Tensor, levels: list[Tensor]) -> Tensor:
        size = x.shape[-2:]
        return self.classify(torch.cat([F.interpolate(level, size) for level in levels], 1))


def test_a_decoder_of_ones_own_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DECODERS, "one_convolution", OneConvolution)
    network = NetworkConfig("resnet10t", "one_convolution", levels=2)
    recipe = StudentStage(
        network=network, source="faces", faces=12, resolution=SIZE, steps=2, batch_size=4,
        val_images=4, val_every=1, workers=0,
    )  # fmt: skip
    config = StudentTraining(recipe)
    folder = StageFolder(tmp_path / "student", "student", config, {"labels": LABELS})
    folder.begin()
    folder.finish(fit_student(config, folder))

    assert read_json(folder.path / "student.json")["network"]["decoder"] == "one_convolution"
    student, _ = load_student(folder.path)
    assert isinstance(student, OneConvolution)
    assert student(torch.zeros(1, 3, 19, 30, dtype=torch.uint8)).shape == (1, 8, 19, 30)
