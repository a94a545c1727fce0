"""What each stage depends on: its part of the config, and the names of what it reads."""

from dataclasses import replace

from common.errors import UserError
from common.files import read_fields
from common.stage_folder import CONFIG, MANIFEST
from datasets.annotations import ANNOTATIONS
from evaluation.options import Comparison, Look
from evaluation.rivals import RIVAL
from evaluation.rows import of_round
from pipeline.config import Config
from pipeline.inputs import earlier_models, resolve
from student.export.stage import ExportJob
from student.recipe import StudentAgain, StudentTraining
from teacher.consensus import Consensus
from teacher.fit import TeacherStage
from teacher.generators.stylegan2.options import GeneratorTraining
from teacher.labeller import LabelStage, LabelTogether
from teacher.relearn import TeacherAgain


def optional(config: Config, *names: str) -> tuple[str, ...]:
    """Those of the inputs that the config names."""
    return tuple(name for name in names if getattr(config.sources, name))


def annotations(config: Config) -> tuple[str, ...]:
    """The inputs that are annotated samples to learn from; at least one is needed."""
    return tuple(config.sources.annotation_folders) or (ANNOTATIONS,)


def generator_config(config: Config) -> GeneratorTraining:
    """The start is an input: it is known by its content, not by its place."""
    recipe = replace(config.generator, start=None)
    return GeneratorTraining(recipe, config.sources.kept_back if config.sources.photographs else 0)


def generator_inputs(config: Config) -> tuple[str, ...]:
    return (*optional(config, "photographs"), *(("start",) if config.generator.start else ()))


def _later(config: Config) -> bool:
    """Whether the run goes on from a teacher and a student, as later rounds do."""
    return config.sources.student is not None


def before(config: Config, *names: str) -> tuple[str, ...]:
    """Those inputs in a later round, which goes on from what they name; none in a first one."""
    return names if _later(config) else ()


def teacher_config(config: Config) -> TeacherStage | TeacherAgain:
    rounds = config.rounds
    if not config.sources.teacher:
        return config.teacher
    consensus = _consensus(config) if _later(config) else None
    return TeacherAgain(config.teacher, rounds.teacher, consensus, config.label.truncation)


def teacher_inputs(config: Config) -> tuple[str, ...]:
    begin = ("teacher_before",) if config.sources.teacher else ()
    return (
        "labels", "generator", *annotations(config), *optional(config, "test_annotations"), *begin,
        *before(config, "student_before"),
    )  # fmt: skip


def _consensus(config: Config) -> Consensus:
    """A student that never saw a mirror image is not asked about one."""
    consensus = config.rounds.consensus
    return replace(consensus, mirror=consensus.mirror and config.student.augmentation.flip > 0)


def label_config(config: Config) -> LabelStage | LabelTogether:
    return LabelTogether(config.label, _consensus(config)) if _later(config) else config.label


# What a student reads beside the label set, by its source.
_STUDENT_INPUTS: dict[str, tuple[str, ...]] = {
    "pseudo_labels": ("pseudo_labels",),
    "online": ("generator", "teacher"),
    "faces": (),
}


def _sees_photographs(config: Config) -> bool:
    """Whether the student learns from photographs too."""
    return config.student.own_answer.unlabelled == "photographs"


def _annotated(config: Config) -> float:
    """Share of annotated samples among the student's labelled images; none where there are none."""
    return config.student.annotated_share if config.sources.annotations else 0.0


def student_config(config: Config) -> StudentTraining:
    recipe = replace(config.student, annotated_share=_annotated(config))
    going_on = config.rounds.student
    online = label_config(config) if recipe.source == "online" else None
    kept_back = config.sources.kept_back if _sees_photographs(config) else 0
    if not _later(config):
        return StudentTraining(recipe, online, kept_back)
    if going_on.from_weights:  # it knows something from the first step on, also of detail
        own = replace(recipe.own_answer, after=0)
        recipe = replace(recipe, own_answer=own, half_size_share=0.0)
    differs = {
        name: value
        for name in ("steps", "learning_rate", "batch_size")
        if (value := getattr(going_on, name)) is not None
    }
    recipe = replace(recipe, **differs)
    return StudentAgain(recipe, online, kept_back, going_on.from_weights)


def student_inputs(config: Config) -> tuple[str, ...]:
    judged = (
        "generator", *config.sources.annotation_folders, *optional(config, "test_annotations"),
        "student_before",
    )  # fmt: skip
    unlabelled = ("photographs",) if _sees_photographs(config) else ()
    annotated = ("generator", *annotations(config)) if _annotated(config) else ()
    source = _STUDENT_INPUTS[config.student.source]
    read = ("labels", *source, *unlabelled, *annotated, *before(config, *judged))
    return tuple(dict.fromkeys(read))


def _trained_source(config: Config) -> str:
    """The source that the run's student was trained on; before that, the one that it will have."""
    path = resolve(config)["student"].path / CONFIG
    if not path.exists():
        return config.student.source
    remedy = "train the student again"
    recipe = read_fields(path, {"config": dict}, remedy)["config"].get("recipe")
    source = recipe.get("source") if isinstance(recipe, dict) else None
    if source not in _STUDENT_INPUTS:
        raise UserError(f"{path} does not say what the student was trained on; {remedy}.")
    return str(source)


def export_config(config: Config) -> ExportJob:
    """The page is left out: with or without it the student is the same."""
    online = config.label if _trained_source(config) == "online" else None
    return ExportJob(replace(config.export, web=False), online)


def export_inputs(config: Config) -> tuple[str, ...]:
    """The student, and what it was trained on, to measure eight bits with, unless that is gone."""
    names, inputs = _STUDENT_INPUTS[_trained_source(config)], resolve(config)
    trained = (inputs["student"].path / MANIFEST).exists()
    gone = trained and not all((inputs[name].path / MANIFEST).exists() for name in names)
    return ("labels", "student", *(() if gone else names))


def compare_config(config: Config) -> Comparison:
    test_sets = {name: t.without_paths() for name, t in config.sources.test_sets.items()}
    look = None
    if kept_back := config.sources.kept_back:
        look = Look(kept_back, mirror=config.student.augmentation.flip > 0)
    return Comparison(config.compare.without_folders(), config.teacher, test_sets, look)


def _looked_at(config: Config) -> tuple[str, ...]:
    """What the student is looked at on where there are no masks."""
    if not config.sources.kept_back:
        return ()
    stored = config.student.source == "pseudo_labels"
    return ("photographs", *(("pseudo_labels",) if stored else ()))


def compare_inputs(config: Config) -> tuple[str, ...]:
    return (
        "labels", "generator", *config.sources.annotation_folders,
        *optional(config, "test_annotations"), *_looked_at(config),
        "teacher", "student", "export", *config.compare_inputs, *config.compare.folders,
        *(of_round(m, n) for n in range(1, config.rounds.count) for m in earlier_models(config)),
        *(f"{name}.{part}" for name, t in config.sources.test_sets.items() for part in t.paths),
        *(RIVAL + name for name in config.sources.rivals),
    )  # fmt: skip
