"""The table of stages, in the order in which they come: what runs each, what it depends on and reads.

Stages know nothing of each other; `run.py` gives them what the ones before have made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.stage_folder import Result, StageFolder
from datasets.annotations import ANNOTATIONS
from evaluation.compare import compare
from evaluation.references import (
    LabelsAlone,
    Supervised,
    recipe_of,
    train_labels_alone,
    train_perfect_teacher,
    train_supervised,
)
from pipeline import checks, depends
from pipeline.config import Config
from student.export.stage import export_student
from student.fit import fit_student
from student.network import load_embedding, load_probabilities
from teacher.fit import TeacherStage, fit_teacher
from teacher.generators.inversion_encoder_training import train_inversion_encoder
from teacher.generators.stylegan2.training import train_generator
from teacher.label import label_samples
from teacher.online import open_online_samples
from teacher.relearn import TeacherAgain, fit_teacher_again


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        help: what it does, in a sentence.
        run: its function, from the part of the config that it depends on and its open folder.
        config: that part.
        inputs: names of what it reads.
        writes: its files, for people.
        options: what of the config its `--help` shows, by the beginning of the names.
        check: refuses what could only fail, before long work and before anything is replaced.
        skip: why `distill` leaves it out, empty where few want it; None if it runs.
        extend: adds to a finished folder what the stage does not depend on.
        exact: whether what reads it refuses one that another config made, since no report would show that.
    """

    help: str
    run: Callable[[Any, StageFolder], Result]
    config: Callable[[Config], Any]
    inputs: Callable[[Config], tuple[str, ...]]
    writes: str
    options: tuple[str, ...]
    check: Callable[[Config], None] = lambda config: None
    skip: Callable[[Config], str | None] = lambda config: None
    extend: Callable[[Config, StageFolder], None] = lambda config, folder: None
    exact: bool = False


def _only_for_comparison(name: str, config: Config) -> str | None:
    """Why a stage that serves the comparison alone is left out, without a word."""
    return None if config.has_test_set and name in config.compare_inputs else ""


def _skip_generator(config: Config) -> str | None:
    given = config.sources.generator
    return f"given, {given}" if given else None


def _skip_teacher(config: Config) -> str | None:
    given = config.sources.teacher
    return f"given, {given}" if config.sources.teacher_is_given else None


def _skip_label(config: Config) -> str | None:
    online = config.student.source == "online"
    return "skipped, the samples are made while the student trains" if online else None


def _skip_perfect_teacher(config: Config) -> str | None:
    if config.sources.annotator and config.student.source == "online":
        return "skipped, there are no stored images to label better"
    return _only_for_comparison("perfect_teacher", config)


def _skip_compare(config: Config) -> str | None:
    if config.has_test_set or config.sources.kept_back:
        return None
    return "skipped, there is no test set in the config"


_open_online = partial(open_online_samples, open_student=load_probabilities)


def _run_teacher(config: TeacherStage | TeacherAgain, folder: StageFolder) -> Result:
    if isinstance(config, TeacherAgain):
        return fit_teacher_again(config, folder, load_probabilities)
    return fit_teacher(config, folder)


# What a later round goes on from.
_BEFORE = ("sources.teacher", "sources.student")

# A student leaves these, and so does every network that is trained like it.
_STUDENT_FILES = "student.safetensors, last.safetensors, student.json"

STAGES = {
    "generator": Stage(
        help="Train a StyleGAN2 generator on unlabelled photographs or rendered faces.",
        run=partial(train_generator, load_embedding=load_embedding),
        config=depends.generator_config,
        inputs=depends.generator_inputs,
        writes="generator.safetensors, generator.json, discriminator.safetensors, samples.png",
        options=("sources.photographs", "generator"),
        skip=_skip_generator,
        check=checks.check_generator,
    ),
    "teacher": Stage(
        help="Train FewShotCNN on the generator's features of a few annotated samples.",
        run=_run_teacher,
        config=depends.teacher_config,
        inputs=depends.teacher_inputs,
        writes="teacher.safetensors, teacher.json, predictions.png",
        options=(
            "sources.labels", "sources.generator", "sources.annotations",
            "sources.test_annotations", *_BEFORE, "teacher", "rounds.teacher", "rounds.consensus",
        ),
        skip=_skip_teacher,
    ),
    "label": Stage(
        help="Draw thousands of fresh samples and label them with the teacher.",
        run=partial(label_samples, open_student=load_probabilities),
        config=depends.label_config,
        inputs=lambda c: ("labels", "generator", "teacher", *depends.before(c, "student_before")),
        writes="shard-*.zip, pseudo_labels.json, pseudo_labels.png",
        options=("sources.labels", "sources.generator", *_BEFORE, "label", "rounds.consensus"),
        skip=_skip_label,
    ),
    "student": Stage(
        help="Train the student, an ordinary image segmenter, on the pseudo-labels.",
        run=partial(fit_student, open_online=_open_online),
        config=depends.student_config,
        inputs=depends.student_inputs,
        writes=_STUDENT_FILES,
        options=(
            "sources.labels", "sources.generator", "sources.photographs", *_BEFORE, "student", "label",
            "rounds.student",
        ),
        check=checks.check_student,
    ),
    "export": Stage(
        help="Export the student as files that run it elsewhere: ONNX, int8, torch.export.",
        run=partial(export_student, open_online=_open_online),
        config=depends.export_config,
        inputs=depends.export_inputs,
        writes="student/: student.onnx, student.pt2, model.safetensors, labels.json, README.md, ...; "
        "with --web web/index.html",
        options=("sources.labels", "sources.generator", "export", "label"),
        check=checks.check_export,
        extend=checks.add_page_if_asked,
    ),
    "inversion_encoder": Stage(
        help="Train a network that guesses an image's latents, a start for inversions.",
        run=train_inversion_encoder,
        config=lambda c: c.inversion_encoder,
        inputs=lambda c: ("generator",),
        writes="encoder.safetensors, encoder.json, encoder.png",
        options=("sources.generator", "inversion_encoder"),
        skip=partial(_only_for_comparison, "inversion_encoder"),
    ),
    "labels_alone": Stage(
        help="Train the student's network on the annotated samples alone, for comparison.",
        run=train_labels_alone,
        config=lambda c: LabelsAlone(
            recipe_of(c.student), c.teacher.shots, c.teacher.shots_seed
        ),
        inputs=lambda c: ("labels", "generator", *depends.annotations(c)),
        writes=_STUDENT_FILES,
        options=(
            "sources.labels", "sources.generator", "sources.annotations", "teacher.shots",
            "teacher.shots_seed", "student",
        ),
        skip=partial(_only_for_comparison, "labels_alone"),
        exact=True,
    ),
    "supervised": Stage(
        help="Train the student's network on rendered faces with exact masks, for comparison.",
        run=train_supervised,
        config=lambda c: Supervised(
            recipe_of(c.student), c.compare.supervised_images, c.compare.held_out_seed + 1
        ),
        inputs=lambda c: ("labels", ANNOTATIONS if c.sources.annotations else "generator"),
        writes=_STUDENT_FILES,
        options=(
            "sources.labels", "sources.annotations", "student", "compare.supervised_images",
            "compare.held_out_seed",
        ),
        skip=partial(_only_for_comparison, "supervised"),
        exact=True,
    ),
    "perfect_teacher": Stage(
        help="Train the student's network on its own images, better labelled, for comparison.",
        run=train_perfect_teacher,
        config=lambda c: recipe_of(c.student),
        inputs=lambda c: ("labels", "pseudo_labels", "annotator"),
        writes=_STUDENT_FILES,
        options=("sources.labels", "sources.annotator", "student"),
        check=checks.check_perfect_teacher,
        skip=_skip_perfect_teacher,
        exact=True,
    ),
    "compare": Stage(
        help="Compare teacher, student and references on the same test sets.",
        run=compare,
        config=depends.compare_config,
        inputs=depends.compare_inputs,
        writes="comparison.json, report.html, comparison.png",
        options=("sources", "compare", "teacher"),
        check=checks.check_compare,
        skip=_skip_compare,
    ),
}  # fmt: skip
