"""The options of the stage `compare`."""

import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from datasets.test_sets import TestSet
from evaluation.frozen_features import FrozenFeaturesConfig
from evaluation.options import CompareStage, Comparison
from teacher.fit import TeacherStage


@pytest.mark.parametrize("name", ["held_out", "rivals", "mine.too", "mine_inverted"])
def test_names_of_test_sets_that_mean_something_else_are_refused(name: str, tmp_path: Path) -> None:
    test_set = TestSet(tmp_path, tmp_path)
    with pytest.raises(UserError, match=f"a set cannot be named {name}"):
        Comparison(CompareStage(), TeacherStage(), {name: test_set})


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
@pytest.mark.parametrize("name", ["perceptual_network", "frozen_features"])
def test_networks_in_folders_are_known_by_their_contents(
    student_folder: Path, tmp_path: Path, name: str, prefix: str
) -> None:
    """So that they may be moved."""

    def options(folder: Path) -> CompareStage:
        named = {"perceptual_network": "resnet18", "frozen_features": "resnet10t"}
        named[name] = f"{prefix}{folder}"
        encoder = FrozenFeaturesConfig(named["frozen_features"])
        return CompareStage(perceptual_network=named["perceptual_network"], frozen_features=encoder)

    here = options(student_folder)
    assert here.folders == {name: student_folder}
    there = options(shutil.copytree(student_folder, tmp_path / "moved"))
    assert here.without_folders() == there.without_folders() != here
    assert here.without_folders().at(there.folders) == there
