"""Where every input of the stages lies, and which stage of the run makes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from evaluation.rivals import RIVAL
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


class Input(NamedTuple):
    """Where an input lies, and the stage of the run that makes it; none for what the run is given."""

    path: Path
    maker: str | None = None


def resolve(config: Config) -> dict[str, Input]:
    """All inputs that the config has, by name; the same for every stage."""
    made = {name: Input(config.run.dir / stage, stage) for name, stage in MAKERS.items()}
    sources = config.sources
    single = ("labels", "generator", "photographs", "annotations", "test_annotations", "annotator")
    given = {name: path for name in single if (path := getattr(sources, name))}
    given |= {
        f"{name}.{part}": path
        for name, test_set in sources.test_sets.items()
        for part, path in test_set.paths.items()
    }
    given |= {RIVAL + name: path for name, path in sources.rivals.items()}
    given |= config.compare.folders
    return made | {name: Input(path) for name, path in given.items()}


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
