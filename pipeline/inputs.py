"""Where every input of the stages lies, and which stage of the run makes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from evaluation.rivals import RIVAL
from evaluation.rows import STUDENT, TEACHER, of_round
from pipeline.config import Config

# What the stages of a run make, by the name of the input that it is for others.
MAKERS = {
    "generator": "generator",
    "teacher": "teacher",
    "pseudo_labels": "label",
    "student": "student",
    "export": "export",
    "inversion_encoder": "inversion_encoder",
    "labels_alone": "labels_alone",
    "supervised": "supervised",
    "perfect_teacher": "perfect_teacher",
}


# What every round makes anew; what comes after the rounds reads the last one's.
_OF_ROUNDS = ("teacher", "pseudo_labels", "student")


class Input(NamedTuple):
    """An input of a stage.

    Attributes:
        path: where it lies.
        maker: the stage of the run that makes it; none for what the run is given.
        round: the round that makes it; 0 where all rounds share it.
    """

    path: Path
    maker: str | None = None
    round: int = 0


def resolve(config: Config) -> dict[str, Input]:
    """All inputs that the config has, by name; the same for every stage."""
    made = {name: Input(config.run.dir / stage, stage) for name, stage in MAKERS.items()}
    count = config.rounds.count
    for name in _OF_ROUNDS if count > 1 else ():
        made[name] = _of_round(config, MAKERS[name], count)
    for number in range(1, count):
        for name in earlier_models(config):
            made[of_round(name, number)] = _of_round(config, name, number)
    sources = config.sources
    single = ("labels", "generator", "photographs", "test_annotations", "annotator")
    given = {name: path for name in single if (path := getattr(sources, name))}
    given |= sources.annotation_folders
    begin = {
        "start": config.generator.start,
        "teacher" if sources.teacher_is_given else "teacher_before": sources.teacher,
        "student_before": sources.student,
    }
    given |= {name: path for name, path in begin.items() if path}
    given |= {
        f"{name}.{part}": path
        for name, test_set in sources.test_sets.items()
        for part, path in test_set.paths.items()
    }
    given |= {RIVAL + name: path for name, path in sources.rivals.items()}
    given |= config.compare.folders
    return made | {name: Input(path) for name, path in given.items()}


def earlier_models(config: Config) -> tuple[str, ...]:
    """What each round makes anew, to be compared: a teacher that is given stays as it is."""
    return (STUDENT,) if config.sources.teacher_is_given else (TEACHER, STUDENT)


def round_folder(run: Path, number: int) -> Path:
    """Where the stages of a round write, from 1; the first one's folders lie in the run's own."""
    return run if number == 1 else run / f"round-{number}"


def _of_round(config: Config, stage: str, number: int) -> Input:
    return Input(round_folder(config.run.dir, number) / stage, stage, number)


def need(inputs: Mapping[str, Input], name: str) -> Input:
    """One of them.

    Raises:
        UserError: the config does not say where it lies.
    """
    if name not in inputs:
        raise UserError(
            f"sources.{name} is not set; name a folder in the config or with --sources.{name}."
        )
    return inputs[name]
