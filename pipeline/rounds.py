"""Rounds, in which teacher and student teach each other: a run's stages, each with the config of its round.

A later round is a run of its own in the folder `round-N` of the run. It goes on from the teacher and the
student of the round before, and has the stages `teacher`, `label` and `student`; without masks a given
teacher stays as it is. All other stages come once, after the last round, and read what that has made.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pipeline.config import Config
from pipeline.inputs import need, resolve, round_folder

IN_ROUNDS = ("teacher", "label", "student")
_FRESH_SEEDS = 100_000  # from one round's samples to the next one's


class Step(NamedTuple):
    """A stage, and the config that it runs with."""

    stage: str
    config: Config


def steps_of(config: Config, stages: Sequence[str]) -> list[Step]:
    """All steps of a run in their order.

    Args:
        stages: all stages in their order.
    """
    first = [name for name in stages if name == "generator" or name in IN_ROUNDS]
    rounds = [round_config(config, number) for number in range(1, config.rounds.count + 1)]
    return [
        *(Step(name, rounds[0]) for name in first),
        *(Step(name, later) for later in rounds[1:] for name in IN_ROUNDS),
        *(Step(name, config) for name in stages if name not in first),
    ]


def round_config(config: Config, number: int) -> Config:
    """The config of a round as a run that has no other.

    Args:
        number: of the round, from 1.
    """
    alone = replace(config.rounds, count=1)
    if number == 1:
        return replace(config, rounds=alone)
    before, inputs = round_folder(config.run.dir, number - 1), resolve(config)
    sources = replace(
        config.sources,
        generator=need(inputs, "generator").path,
        teacher=config.sources.teacher if config.sources.teacher_is_given else before / "teacher",
        student=before / "student",
    )
    label = replace(config.label, seed=config.label.seed + (number - 1) * _FRESH_SEEDS)
    run = replace(config.run, dir=round_folder(config.run.dir, number))
    return replace(config, run=run, sources=sources, label=label, rounds=alone)
