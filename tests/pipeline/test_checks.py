"""What is refused before long work."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from pipeline.checks import check_export
from pipeline.config import Config, Run, Sources
from student.base import NetworkConfig
from student.recipe import StudentStage
from teacher.generators.stylegan2.network import GeneratorConfig
from teacher.generators.stylegan2.options import GeneratorStage
from tests.conftest import LABELS, ROOT


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (Config(student=StudentStage(source="faces", resolution=48)), 48),
        (Config(generator=GeneratorStage(network=GeneratorConfig((8, 8, 8, 8)))), 32),
        (Config(sources=Sources(generator=ROOT / "assets/faces64/generator")), 64),
    ],
    ids=["rendered", "own_generator", "given_generator"],
)
def test_an_encoder_is_asked_at_the_runs_resolution(
    tmp_path: Path, config: Config, side: int
) -> None:
    """Before the generator, the teacher and the labels are made."""
    network = NetworkConfig("crossvit_tiny_240", levels=4)  # strides of 12 and 17
    config = replace(
        config,
        run=Run(tmp_path),
        sources=replace(config.sources, labels=LABELS),
        student=replace(config.student, network=network),
    )
    with pytest.raises(
        UserError, match=rf"'crossvit_tiny_240' .* images of {side} x {side} pixels"
    ):
        check_export(config)
