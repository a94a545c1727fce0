"""The stages in the order in which they come: what runs them, what they depend on, what each reads.

Stages know nothing of each other; here they are given what the ones before have made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from common.errors import UserError
from common.files import read_json
from common.stage_folder import CONFIG, MANIFEST, Result, StageFolder
from datasets.labels import LabelSet
from evaluation.compare import OWN_ROWS, Comparison, compare
from evaluation.references import (
    LabelsAlone,
    Supervised,
    check_annotator,
    recipe_of,
    train_labels_alone,
    train_perfect_teacher,
    train_supervised,
)
from evaluation.rivals import RIVAL, try_rival
from pipeline.config import Config, guesses, has_test_set, references
from student.export.graph import check_exportable
from student.export.stage import ExportStage, export_student
from student.fit import fit_student
from student.network import load_encoder, load_maps
from student.recipe import StudentStage
from teacher.fit import fit_teacher
from teacher.generators.inversion_encoder import train_encoder
from teacher.generators.stylegan2.training import train_generator
from teacher.label import Labeller, LabelStage, OnlineSamples, label_samples


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        run: its function.
        config: the part of a run's config that it depends on.
        inputs: names of what it reads.
        writes: its files, for people.
        check: refuses what could only fail, before hours of work and before anything is replaced.
    """

    run: Callable[[Any, StageFolder], Result]
    config: Callable[[Config], Any]
    inputs: Callable[[Config], tuple[str, ...]]
    writes: str
    check: Callable[[Config], None] = lambda config: None


def _optional(config: Config, name: str) -> tuple[str, ...]:
    """An input that a run may do without."""
    return (name,) if getattr(config.sources, name) else ()


@dataclass(frozen=True)
class OnlineStudent:
    """What a student depends on whose samples are made while it trains."""

    student: StudentStage
    label: LabelStage


@dataclass(frozen=True)
class OnlineExport:
    """What the export of such a student depends on."""

    export: ExportStage
    label: LabelStage


# What a student reads beside the label set, by its source.
STUDENT_INPUTS: dict[str, tuple[str, ...]] = {
    "pseudo_labels": ("pseudo_labels",),
    "online": ("generator", "teacher"),
    "faces": (),
}


def _train_student(config: StudentStage | OnlineStudent, folder: StageFolder) -> Result:
    """The stage `student`, given what it may not know of: the generator."""
    if isinstance(config, StudentStage):
        return fit_student(config, folder)
    if config.label.drop_uncertain:
        PartialState().print(
            "warning: label.drop_uncertain is ignored: online, the most uncertain samples cannot be known first"
        )
    labeller = Labeller.load(config.label, folder.inputs, PartialState().device)
    return fit_student(config.student, folder, OnlineSamples(labeller))


def _trained_on(config: Config) -> str:
    """The source that the run's student has; before it is trained, that it will have."""
    path = config.run.dir / "student" / CONFIG
    if not path.exists():
        return config.student.source
    made = read_json(path)["config"]
    return str(made.get("student", made)["source"])


def _export_inputs(config: Config) -> tuple[str, ...]:
    """Beside the student what it was trained on, to measure eight bits with, unless that is gone."""
    names = STUDENT_INPUTS[_trained_on(config)]
    trained = (config.run.dir / "student" / MANIFEST).exists()
    gone = trained and not all((input_path(config, name) / MANIFEST).exists() for name in names)
    return ("labels", "student", *(() if gone else names))


def _export_student(config: ExportStage | OnlineExport, folder: StageFolder) -> Result:
    """The stage `export`, given what it may not know of: the generator."""
    if isinstance(config, ExportStage):
        return export_student(config, folder)
    online = None
    if "teacher" in folder.inputs:
        labeller = Labeller.load(config.label, folder.inputs, PartialState().device)
        online = OnlineSamples(labeller)
    return export_student(config.export, folder, online)


def _check_export(config: Config) -> None:
    """A student that is not trained yet can be exported."""
    if not (config.run.dir / "student" / CONFIG).exists():
        check_exportable(config.student.network, len(LabelSet.load(config.sources.labels)))


def _check_compare(config: Config) -> None:
    """What the comparison is given from elsewhere is there and can be used."""
    sources, settings = config.sources, config.compare
    if not has_test_set(config):
        raise UserError(
            "there is no test set: name sources.test_annotations or sources.test_sets, or raise "
            "compare.held_out_images."
        )
    for name, path in sources.rivals.items():
        if name in OWN_ROWS:
            raise UserError(f"sources.rivals: {name} is a row of its own; choose another name.")
        try_rival(path, LabelSet.load(sources.labels))
    for network in filter(None, (settings.perceptual_network, settings.frozen_features.encoder)):
        load_maps(network, torch.device("cpu"))


# A student leaves these, and so does every network like it.
_STUDENT_FILES = "student.safetensors, last.safetensors, student.json"
STAGES = {
    "generator": Stage(
        lambda config, folder: train_generator(config, folder, load_encoder),
        lambda c: c.generator,
        lambda c: _optional(c, "photographs"),
        "generator.safetensors, generator.json, samples.png",
    ),
    "teacher": Stage(
        fit_teacher, lambda c: c.teacher,
        lambda c: ("labels", "generator", "annotations", *_optional(c, "test_annotations")),
        "teacher.safetensors, teacher.json, predictions.png",
    ),
    "label": Stage(
        label_samples, lambda c: c.label, lambda c: ("labels", "generator", "teacher"),
        "shard-*.zip, pseudo_labels.json, pseudo_labels.png",
    ),
    "student": Stage(
        _train_student,
        lambda c: OnlineStudent(c.student, c.label) if c.student.source == "online" else c.student,
        lambda c: ("labels", *STUDENT_INPUTS[c.student.source]),
        _STUDENT_FILES,
    ),
    "export": Stage(
        _export_student,
        lambda c: (
            OnlineExport(c.export.stage, c.label) if _trained_on(c) == "online" else c.export.stage
        ),
        _export_inputs,
        "student/: student.onnx, student.pt2, model.safetensors, labels.json, README.md, ...; with --web "
        "web/index.html",
        _check_export,
    ),
    "inversion_encoder": Stage(
        train_encoder, lambda c: c.inversion_encoder, lambda c: ("generator",),
        "encoder.safetensors, encoder.json, encoder.png",
    ),
    "labels_alone": Stage(
        train_labels_alone,
        lambda c: LabelsAlone(recipe_of(c.student), c.teacher.shots, c.teacher.shots_seed),
        lambda c: ("labels", "generator", "annotations"),
        _STUDENT_FILES,
    ),
    "supervised": Stage(
        train_supervised,
        lambda c: Supervised(recipe_of(c.student), c.compare.supervised_images, c.compare.held_out_seed + 1),
        lambda c: ("labels", "annotations"),
        _STUDENT_FILES,
    ),
    "perfect_teacher": Stage(
        train_perfect_teacher, lambda c: recipe_of(c.student),
        lambda c: ("labels", "pseudo_labels", "annotator"),
        _STUDENT_FILES,
        lambda c: check_annotator(input_path(c, "annotator"), LabelSet.load(c.sources.labels)),
    ),
    "compare": Stage(
        compare,
        lambda c: Comparison(
            c.compare.without_folders(), c.teacher,
            {name: given.without_paths() for name, given in c.sources.test_sets.items()},
        ),
        lambda c: (
            "labels", "generator", "annotations", *_optional(c, "test_annotations"),
            "teacher", "student", "export", *references(c), *(("inversion_encoder",) if guesses(c) else ()),
            *c.compare.folders,
            *(f"{name}.{part}" for name, t in c.sources.test_sets.items() for part in t.paths),
            *(RIVAL + name for name in c.sources.rivals),
        ),
        "comparison.json, report.html, comparison.png",
        _check_compare,
    ),
}  # fmt: skip


def maker_of(config: Config, name: str) -> str | None:
    """The stage of the run that makes an input, if one does."""
    maker = {"pseudo_labels": "label"}.get(name, name)
    made = maker in STAGES and input_path(config, name) == config.run.dir / maker
    return maker if made else None


def find_input(config: Config, name: str) -> Path | None:
    """Where an input lies, if the config still names it and it is still there."""
    try:
        path = input_path(config, name)
    except (UserError, KeyError, AttributeError):  # of a config that had more
        return None
    return path if path.exists() else None


def input_path(config: Config, name: str) -> Path:
    """Where an input lies: named by `sources`, or made by an earlier stage of the run."""
    if name == "generator":
        return config.sources.generator or config.run.dir / "generator"
    if name == "pseudo_labels":
        return config.run.dir / "label"
    if name in STAGES:
        return config.run.dir / name
    if name in config.compare.folders:
        return config.compare.folders[name]
    if name.startswith(RIVAL):
        return config.sources.rivals[name.removeprefix(RIVAL)]
    if "." in name:
        test_set, part = name.rsplit(".", 1)
        return config.sources.test_sets[test_set].paths[part]
    path: Path | None = getattr(config.sources, name)
    if path is None:
        raise UserError(
            f"sources.{name} is not set; name a folder in the config or with --sources.{name}."
        )
    return path
