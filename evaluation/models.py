"""What the comparison loads: the run's networks, and a segmenter for each row of its tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from accelerate import PartialState

from common.files import hash_file
from common.stage_folder import StageFolder, artifact_hash
from datasets.annotations import annotation_names, read_all_annotated
from datasets.labels import LabelSet
from evaluation.colour_only import fit_colour_only
from evaluation.frozen_features import fit_frozen_features
from evaluation.options import CompareStage
from evaluation.rivals import RIVAL, open_rival
from evaluation.rows import (
    COLOUR_ONLY,
    EXPORTED,
    FROZEN_FEATURES,
    REFERENCES,
    STUDENT,
    TEACHER,
    earlier_rounds,
)
from student.base import Student
from student.export.formats.onnx import onnx_predictor
from student.export.stage import MODEL
from student.network import WEIGHTS, Predict, load_maps, load_student, predictor
from teacher.fewshot import FewShotCNN, learned_from, load_teacher
from teacher.fit import TeacherStage
from teacher.generators.base import FeatureGenerator
from teacher.generators.registry import load_generator
from teacher.predict import Annotated


@dataclass(frozen=True)
class Loaded:
    """The run's networks and annotated samples, on the device of this process.

    Attributes:
        labels: the classes.
        generator: what the teacher gets its features from.
        generator_hash: hash of its artefact.
        teacher: fitted to its features.
        earlier_teachers: those of the rounds before, by the name of their row.
        shots: the annotated samples that the teacher was trained on, and their masks; none where a teacher
            was given.
        students: the student, those of the rounds before and the reference networks, by the name of their
            row.
    """

    labels: LabelSet
    generator: FeatureGenerator
    generator_hash: str
    teacher: FewShotCNN
    earlier_teachers: Mapping[str, FewShotCNN]
    shots: Annotated | None
    students: Mapping[str, Student]


def load_run(folder: StageFolder) -> Loaded:
    """Read `labels`, `generator`, `teacher`, `student`, trained references and, where given, `annotations`.

    Raises:
        UserError: a file is missing or damaged, or belongs to another generator or label set.
    """
    inputs, device = folder.inputs, PartialState().device
    labels = LabelSet.load(inputs["labels"])
    generator_hash = artifact_hash(inputs["generator"])
    shots = None
    if annotation_names(inputs):
        samples, masks = read_all_annotated(inputs, labels, generator_hash)
        trained_on = learned_from(inputs["teacher"])
        shots = Annotated(samples.take(trained_on), masks[trained_on])
    generator = load_generator(inputs["generator"], device)
    return Loaded(
        labels,
        generator,
        generator_hash,
        load_teacher(inputs["teacher"], generator, labels.names),
        {
            name: load_teacher(inputs[name], generator, labels.names)
            for name in earlier_rounds(TEACHER, inputs)
        },
        shots,
        {
            name: load_student(inputs[name])[0].to(device)
            for name in (STUDENT, *earlier_rounds(STUDENT, inputs), *REFERENCES)
            if name in inputs
        },
    )


def open_models(
    settings: CompareStage, recipe: TeacherStage, loaded: Loaded, folder: StageFolder
) -> dict[str, Predict]:
    """All segmenters that take an image, by the name of their row; the small baselines are trained here.

    Args:
        settings: which rows there are.
        recipe: of the row `frozen_features`.
        loaded: the run's networks.
        folder: its inputs `export` and `rivals.NAME` are ONNX files.
    """
    labels = loaded.labels
    baselines = _baselines(settings, recipe, loaded.shots, labels) if loaded.shots else {}
    references = {name: s for name, s in loaded.students.items() if name != STUDENT}
    return {
        STUDENT: predictor(loaded.students[STUDENT]),
        EXPORTED: onnx_predictor(folder.inputs["export"] / MODEL),
        **{name: predictor(network) for name, network in references.items()},
        **baselines,
        **{
            name.removeprefix(RIVAL): open_rival(path, labels)
            for name, path in folder.inputs.items()
            if name.startswith(RIVAL)
        },
    }


def _baselines(
    settings: CompareStage, recipe: TeacherStage, shots: Annotated, labels: LabelSet
) -> dict[str, Predict]:
    """The segmenters that are trained here, on the annotated samples, by the name of their row."""
    device = PartialState().device
    images, masks = shots.samples.images.to(device), shots.masks
    made: dict[str, Predict] = {}
    if encoder := settings.frozen_features.encoder:
        made[FROZEN_FEATURES] = fit_frozen_features(
            load_maps(encoder, device), settings.frozen_features.size, images, masks, recipe, labels
        )
    colour_only = fit_colour_only(
        images, masks.to(device), len(labels), labels.ignore_index, settings.seed
    )
    return {**made, COLOUR_ONLY: predictor(colour_only)}


def model_hashes(loaded: Loaded, folder: StageFolder) -> dict[str, str]:
    """Hashes of the networks that are compared, by name."""
    inputs = folder.inputs
    return {
        "generator": loaded.generator_hash,
        "teacher": folder.input_hash("teacher"),
        **{name: hash_file(inputs[name] / WEIGHTS) for name in loaded.students},
        EXPORTED: hash_file(inputs["export"] / MODEL),
        **{name: folder.input_hash(name) for name in inputs if name.startswith(RIVAL)},
    }
