"""Everything that can be said to a run, and what is made of it: a quick try, a run of a study."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from datasets.test_sets import TestSet
from evaluation.compare import CompareStage
from evaluation.study import Variant, enough_epochs
from student.export.stage import ExportStage
from student.recipe import StudentStage
from teacher.fit import TeacherStage
from teacher.generators.inversion_encoder import InversionEncoderStage
from teacher.generators.stylegan2.training import GeneratorStage
from teacher.label import LabelStage


@dataclass(frozen=True)
class Run:
    """Where the stages' folders lie.

    Args:
        dir: the run's folder; each stage writes to a folder of its name in it.
        overwrite: make stages anew that were made with another config or from other inputs.
    """

    dir: Path = Path("runs/demo")
    overwrite: bool = False


@dataclass(frozen=True)
class Sources:
    """What the run is given.

    Args:
        labels: the label set.
        generator: a finished generator folder, or a checkpoint file of another system; none to
            train one in the run's stage `generator`.
        photographs: a folder or zip file that the stage `generator` learns from; none for rendered
            faces.
        annotations: annotated samples for the teacher.
        test_annotations: annotated samples for the comparison; a run does without them.
        annotator: a finished student folder, better than the teacher, for the comparison's row
            `perfect_teacher`; a run does without it.
        test_sets: by name, pictures with true masks for the comparison.
        rivals: by name, other exported segmenters for the comparison: ONNX files that take and give what
            ours does, in the run's classes.
    """

    labels: Path = Path("configs/labels/face8.yaml")
    generator: Path | None = None
    photographs: Path | None = None
    annotations: Path | None = None
    test_annotations: Path | None = None
    annotator: Path | None = None
    test_sets: dict[str, TestSet] = field(default_factory=dict)
    rivals: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportOptions(ExportStage):
    """Stage `export`, and what can be added to it when it is done.

    Args:
        web: add a page, `student/web/index.html`, that runs the student in a browser; needs npm.
    """

    web: bool = False

    @property
    def stage(self) -> ExportStage:
        """What the stage depends on. Not the page: with or without it the student is the same."""
        names = [f.name for f in dataclasses.fields(ExportStage)]
        return ExportStage(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Config:
    """Everything that can be said to a run."""

    run: Run = field(default_factory=Run)
    sources: Sources = field(default_factory=Sources)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    teacher: TeacherStage = field(default_factory=TeacherStage)
    label: LabelStage = field(default_factory=LabelStage)
    student: StudentStage = field(default_factory=StudentStage)
    inversion_encoder: InversionEncoderStage = field(default_factory=InversionEncoderStage)
    compare: CompareStage = field(default_factory=CompareStage)
    export: ExportOptions = field(default_factory=ExportOptions)


def guesses(config: Config) -> bool:
    """Whether the comparison's inversion starts from an encoder's guess."""
    return config.inversion_encoder.images > 0 and config.compare.inversion_images > 0


def has_test_set(config: Config) -> bool:
    """Whether there is anything to compare on."""
    sources = config.sources
    return bool(sources.test_annotations or sources.test_sets or config.compare.held_out_images)


def references(config: Config) -> tuple[str, ...]:
    """The networks that the comparison holds the student against: the stages that train them."""
    supervised = ("supervised",) if config.compare.supervised_images else ()
    stored = config.student.source != "online"  # what is labelled anew is the stage `label`'s
    perfect = ("perfect_teacher",) if config.sources.annotator and stored else ()
    return ("labels_alone", *supervised, *perfect)


def smoke(config: Config) -> Config:
    """The same run, every stage cut to about a minute: does it hold together?"""
    new = dataclasses.replace
    student = new(
        config.student, steps=min(config.student.steps, 4), batch_size=4, val_images=4, val_every=2,
        faces=min(config.student.faces, 16), workers=0,
        network=new(config.student.network, pretrained=False),
    )  # fmt: skip
    return new(
        config,
        generator=new(config.generator, images=4 * config.generator.batch_size),
        teacher=new(config.teacher, epochs=min(config.teacher.epochs, 2)),
        label=new(config.label, count=min(config.label.count, 12), shard_size=4, batch_size=2),
        student=student,
        inversion_encoder=new(
            config.inversion_encoder,
            images=min(config.inversion_encoder.images, 4 * config.inversion_encoder.batch_size),
        ),
        compare=new(
            config.compare,
            held_out_images=min(config.compare.held_out_images, 8),
            supervised_images=min(config.compare.supervised_images, 16),
            inversion_images=min(config.compare.inversion_images, 2),
            inversion=new(
                config.compare.inversion,
                steps=min(config.compare.inversion.steps, 4),
                random_starts=min(config.compare.inversion.random_starts, 8),
            ),
            timed_images=2,
        ),
    )


def varied(config: Config, variant: Variant, base: int) -> Config:
    """The config with a variant's seeds and labels; it has `base` labels itself. Test sets stay.

    Number 0 with so many labels is the config itself: a finished run can be moved to its place.
    """
    new, number, teacher = dataclasses.replace, variant.number, config.teacher
    epochs = enough_epochs(teacher.epochs, base, variant.labels)
    teacher = new(
        teacher,
        shots=teacher.shots if variant.labels == base else variant.labels,
        shots_seed=None if teacher.shots_seed is None else teacher.shots_seed + number,
        epochs=epochs,
        lr_decay_epoch=teacher.lr_decay_epoch * epochs // teacher.epochs,
        seed=teacher.seed + number,
    )
    label = new(config.label, seed=config.label.seed + number)
    student = new(config.student, seed=config.student.seed + number)
    return new(config, teacher=teacher, label=label, student=student)
