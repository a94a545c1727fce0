"""The table of inputs: where each lies, and which stage of the run makes it."""

from pathlib import Path
from typing import Literal

import pytest

from common.errors import UserError
from common.stage_folder import CONFIG
from datasets.test_sets import TestSet
from evaluation.options import CompareStage
from pipeline.config import Config, Run, Sources
from pipeline.inputs import MAKERS, Input, need, resolve
from pipeline.stages import STAGES
from student.recipe import StudentStage

RUN = Run(Path("runs/mine"))


def test_what_the_run_makes_lies_in_its_stages_folders() -> None:
    inputs = resolve(Config(run=RUN))
    assert inputs["teacher"] == Input(Path("runs/mine/teacher"), "teacher")
    assert inputs["pseudo_labels"] == Input(Path("runs/mine/label"), "label")
    assert {inputs[name].maker for name in MAKERS} <= set(STAGES)


def test_a_source_that_is_given_is_made_by_no_stage() -> None:
    assert resolve(Config(run=RUN))["generator"].maker == "generator"
    given = resolve(Config(run=RUN, sources=Sources(generator=Path("g"), annotations=Path("a"))))
    assert given["generator"] == Input(Path("g"))
    assert given["annotations"] == Input(Path("a"))
    assert given["labels"] == Input(Path("configs/labels/face8.yaml"))
    assert "photographs" not in given and "test_annotations" not in given


def test_test_sets_and_rivals_have_names_of_their_own() -> None:
    own = TestSet(Path("i"), Path("m"), labels=Path("l"))
    sources = Sources(test_sets={"own": own}, rivals={"theirs": Path("r.onnx")})
    inputs = resolve(Config(run=RUN, sources=sources))
    paths = {name: found.path for name, found in inputs.items() if found.maker is None}
    assert paths == {
        "labels": sources.labels, "own.images": Path("i"), "own.masks": Path("m"),
        "own.labels": Path("l"), "rivals.theirs": Path("r.onnx"),
    }  # fmt: skip


def test_networks_count_as_inputs_where_they_lie_in_folders(tmp_path: Path) -> None:
    (tmp_path / CONFIG).touch()
    config = Config(compare=CompareStage(perceptual_network=f"local-dir:{tmp_path}"))
    assert resolve(config)["perceptual_network"] == Input(tmp_path)
    by_name = Config(compare=CompareStage(perceptual_network="resnet18"))
    assert "perceptual_network" not in resolve(by_name)


def test_what_is_not_set_is_said() -> None:
    inputs = resolve(Config(run=RUN))
    assert need(inputs, "teacher").maker == "teacher"
    with pytest.raises(
        UserError, match=r"sources\.annotations is not set; .* --sources\.annotations"
    ):
        need(inputs, "annotations")


@pytest.mark.parametrize("source", ["pseudo_labels", "online", "faces"])
def test_every_stage_reads_inputs_that_the_config_has(
    source: Literal["pseudo_labels", "online", "faces"],
) -> None:
    """With all that a config can name, none is left unresolved; each is made before it is read."""
    sources = Sources(
        annotations=Path("a"), test_annotations=Path("t"), annotator=Path("s"),
        photographs=Path("p"), test_sets={"own": TestSet(Path("i"), Path("m"))},
        rivals={"theirs": Path("r.onnx")},
    )  # fmt: skip
    student = StudentStage(source=source)
    config, made = Config(run=RUN, sources=sources, student=student), set[str | None]({None})
    for name, stage in STAGES.items():
        if stage.skip(config) is None:
            inputs = resolve(config)
            assert {need(inputs, key).maker for key in stage.inputs(config)} <= made, name
            made.add(name)
    assert "compare" in made
