"""The run's configuration, and the short one of a smoke test."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import UserError
from common.options import require_counts
from datasets.annotations import ANNOTATIONS
from datasets.test_sets import TestSet
from evaluation.options import CompareStage
from student.export.stage import ExportStage
from student.recipe import GoingOn, StudentStage
from teacher.consensus import Consensus
from teacher.fit import TeacherStage
from teacher.generators.inversion_encoder_training import InversionEncoderStage
from teacher.generators.stylegan2.options import GeneratorStage
from teacher.labeller import LabelStage
from teacher.relearn import Relearning


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
        labels: label set, a YAML file of names and colours.
        generator: finished generator folder, or a checkpoint file of another system; none to train one
            in the run's stage `generator`.
        photographs: folder or zip file of photographs that the stage `generator` and, without masks, the
            student learn from; none for rendered faces.
        kept_back: number of these photographs from which nothing learns, so that the report of `compare`
            can show the student on them.
        teacher: finished teacher folder of this generator, or of one that this one's training began with.
            Without annotations it is the run's teacher; with them, the teacher goes on from it.
        student: finished student folder to go on from, as in a later round; with `teacher`.
        annotations: folder of annotated samples that the teacher learns from, or a list of such folders.
        test_annotations: folder of annotated samples for evaluation; a run does without them.
        annotator: finished student folder, better than the teacher, that labels the images of the
            comparison's row `perfect_teacher`; a run does without it.
        test_sets: real images with true masks for the comparison, by name: {NAME: {images: FOLDER, masks:
            FOLDER, labels: FILE, merges: FILE, layout: plain or celebamask, first: N, last: N}}; all but
            the first two may be left out.
        rivals: other segmenters for the comparison, by name: {NAME: FILE}, ONNX files that take uint8
            RGB [N, H, W, 3] and give labels [N, H, W] in the run's classes.
    """

    labels: Path = Path("configs/labels/face8.yaml")
    generator: Path | None = None
    photographs: Path | None = None
    kept_back: int = 0
    teacher: Path | None = None
    student: Path | None = None
    annotations: Path | list[Path] | None = None
    test_annotations: Path | None = None
    annotator: Path | None = None
    test_sets: dict[str, TestSet] = field(default_factory=dict)
    rivals: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept_back < 0 or (self.kept_back and not self.photographs):
            raise UserError(
                f"sources.kept_back is {self.kept_back}: so many photographs are kept back, and there are "
                "none; name them, as in --photographs DIR, or set it to 0."
            )
        if self.student and not self.teacher:
            raise UserError(
                "sources.student goes on from a student beside its teacher; name sources.teacher too."
            )

    @property
    def teacher_is_given(self) -> bool:
        """Whether a finished teacher is used as it is: nobody drew masks to teach it more."""
        return self.teacher is not None and not self.annotations

    @property
    def annotation_folders(self) -> dict[str, Path]:
        """Folders of annotated samples to learn from, by the name of the input."""
        several = self.annotations if isinstance(self.annotations, list) else [self.annotations]
        folders = [folder for folder in several if folder]
        return {f"{ANNOTATIONS}.{n}" if n > 1 else ANNOTATIONS: f for n, f in enumerate(folders, 1)}


@dataclass(frozen=True)
class Rounds:
    """How often teacher and student teach each other, and how.

    Args:
        count: number of rounds; 1 for a teacher that teaches a student, once. In a later round the teacher
            learns from the student, both label new samples together, and the student goes on from there.
        consensus: how the answers of teacher and student are joined.
        teacher: how the teacher of a later round learns from the joined answers.
        student: how the student of a later round goes on.
    """

    count: int = 1
    consensus: Consensus = field(default_factory=Consensus)
    teacher: Relearning = field(default_factory=Relearning)
    student: GoingOn = field(default_factory=GoingOn)

    def __post_init__(self) -> None:
        require_counts("rounds", self, "count")


@dataclass(frozen=True)
class Config:
    """The run's configuration: a part for every stage, and what they share.

    Args:
        run: the run
        sources: what the run is given
        generator: stage generator, a StyleGAN2 trained on unlabelled images
        teacher: stage teacher, FewShotCNN on the generator's features
        label: stage label, thousands of pseudo-labelled samples
        student: stage student, the image segmenter
        rounds: how often teacher and student teach each other, and how
        inversion_encoder: stage inversion_encoder, a start for inversions
        compare: stage compare, teacher against student
        export: stage export, files that run the student elsewhere
    """

    run: Run = field(default_factory=Run)
    sources: Sources = field(default_factory=Sources)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    teacher: TeacherStage = field(default_factory=TeacherStage)
    label: LabelStage = field(default_factory=LabelStage)
    student: StudentStage = field(default_factory=StudentStage)
    rounds: Rounds = field(default_factory=Rounds)
    inversion_encoder: InversionEncoderStage = field(default_factory=InversionEncoderStage)
    compare: CompareStage = field(default_factory=CompareStage)
    export: ExportStage = field(default_factory=ExportStage)

    @property
    def has_test_set(self) -> bool:
        """Whether there is anything to compare on."""
        sources = self.sources
        return bool(sources.test_annotations or sources.test_sets or self.compare.held_out_images)

    @property
    def references(self) -> tuple[str, ...]:
        """The stages that train what the comparison holds the student against."""
        supervised = ("supervised",) if self.compare.supervised_images else ()
        stored = self.student.source != "online"  # what is labelled anew is the stage `label`'s
        perfect = ("perfect_teacher",) if self.sources.annotator and stored else ()
        alone = ("labels_alone",) if self.sources.annotations else ()
        return (*alone, *supervised, *perfect)

    @property
    def compare_inputs(self) -> tuple[str, ...]:
        """The stages that run for the comparison alone; none where there is nothing to compare on."""
        if not self.has_test_set:
            return ()
        encoder = self.inversion_encoder.images > 0 and self.compare.inversion_images > 0
        return (*self.references, *(("inversion_encoder",) if encoder else ()))


def smoke(config: Config) -> Config:
    """The same run with every stage cut to about a minute: does it hold together?"""
    generator, label, student = config.generator, config.label, config.student
    encoder, compare, rounds = config.inversion_encoder, config.compare, config.rounds
    return replace(
        config,
        generator=replace(generator, images=4 * generator.batch_size),
        teacher=replace(config.teacher, epochs=min(config.teacher.epochs, 2)),
        rounds=replace(
            config.rounds,
            teacher=replace(rounds.teacher, epochs=min(rounds.teacher.epochs, 1)),
            student=replace(rounds.student, steps=4),
        ),
        label=replace(label, count=min(label.count, 12), shard_size=4, batch_size=2),
        student=replace(
            student,
            steps=min(student.steps, 4),
            batch_size=4,
            val_images=4,
            val_every=2,
            faces=min(student.faces, 16),
            own_answer=replace(
                student.own_answer, unlabelled_faces=16, unlabelled_batch=4, after=2
            ),
            workers=0,
            network=replace(student.network, pretrained=False),
        ),
        inversion_encoder=replace(encoder, images=min(encoder.images, 4 * encoder.batch_size)),
        compare=replace(
            compare,
            held_out_images=min(compare.held_out_images, 8),
            supervised_images=min(compare.supervised_images, 16),
            inversion_images=min(compare.inversion_images, 2),
            inversion=replace(
                compare.inversion,
                steps=min(compare.inversion.steps, 4),
                random_starts=min(compare.inversion.random_starts, 8),
            ),
            timed_images=2,
        ),
    )
