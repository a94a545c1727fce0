"""Stage `teacher` where it goes on from a finished teacher: in a later round, or on another generator.

The teacher goes on from its weights. Most steps learn a fresh sample of the generator with the answer of
the teacher before, in a later round joined with that of the student before, weighted by its confidence.
The other steps learn an annotated sample with its mask.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState

from common.errors import UserError
from common.stage_folder import Result, StageFolder
from teacher.consensus import Consensus, OpenStudent, Together, open_together
from teacher.fewshot import FewShotCNN, load_teacher
from teacher.fit import Task, TeacherStage, open_task, train_teacher, write_teacher
from teacher.generators.base import FeatureGenerator
from teacher.generators.sampling import feature_stds, to_uint8
from teacher.partial import fill_in, is_partial
from teacher.predict import evaluate_teacher
from teacher.shots import Shot, training_features

_EPOCH = 50  # steps
_DECAY = 0.7  # share of the steps after which the learning rate is divided by ten
_TOLERATED = 0.05  # mIoU that a teacher may lose on what it learns from
_SEED, _SAMPLES = 1 << 40, 1 << 40  # seed of the samples, and how many it has


@dataclass(frozen=True)
class Relearning:
    """How the teacher of a later round learns.

    Args:
        epochs: passes of 50 steps, a sample each; 0 leaves the teacher as it is.
        learning_rate: Adam's learning rate, divided by ten after seven tenths of the epochs.
        mask_share: share of the steps that learn an annotated sample.
    """

    epochs: int = 12
    learning_rate: float = 1e-3
    mask_share: float = 0.2

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise UserError(f"rounds.teacher.epochs is {self.epochs}; it is a number, 0 at least.")
        if not 0 <= self.mask_share <= 1:
            raise UserError(
                f"rounds.teacher.mask_share is {self.mask_share}; it is a share, from 0 to 1."
            )


@dataclass(frozen=True)
class TeacherAgain:
    """What the stage depends on where it goes on from a finished teacher.

    Args:
        recipe: the options of the stage, for all that `relearning` does not say.
        relearning: what differs from it.
        consensus: how the answers of teacher and student are joined; none without a student.
        truncation: psi of the fresh samples, that of the pseudo-labels.
    """

    recipe: TeacherStage
    relearning: Relearning
    consensus: Consensus | None
    truncation: float


def fit_teacher_again(
    config: TeacherAgain, folder: StageFolder, open_student: OpenStudent
) -> Result:
    """Run the stage: writes the files of `fit_teacher`.

    Reads its inputs, and `teacher_before` and perhaps `student_before`. If the new teacher is worse on the
    samples that it is evaluated on, the teacher before is written instead; where these are the very
    samples that it learns from, which the teacher before had to itself, if it is much worse.

    Args:
        open_student: reads the student of the round before.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    relearning = config.relearning
    task = open_task(config.recipe, folder)
    generator, labels, inputs = task.generator, task.labels, folder.inputs
    before = load_teacher(inputs["teacher_before"], generator, labels.names)
    figures = evaluate_teacher(generator, before, task.test, labels)
    if not relearning.epochs:
        return write_teacher(folder, task, before, {task.kind: figures})

    together, device = None, generator.device
    if student := inputs.get("student_before"):
        assert config.consensus
        together = open_together(config.consensus, student, labels, device, open_student)
    network = copy.deepcopy(before).requires_grad_(True)
    if config.recipe.standardise:
        network.standardise(feature_stds(generator, config.recipe.seed), trained=True)
    recipe = replace(
        config.recipe,
        network=before.config,
        epochs=relearning.epochs,
        learning_rate=relearning.learning_rate,
        lr_decay_epoch=round(_DECAY * relearning.epochs),
    )

    def shots() -> Iterator[Shot]:
        drawn = torch.rand(_EPOCH) < relearning.mask_share
        for is_mask in drawn.tolist():
            if is_mask:
                yield _annotated_shot(task, recipe, before)
            else:
                yield _answered_shot(generator, before, together, config.truncation)

    learned = train_teacher(recipe, task, network, shots, folder)
    tolerated = _TOLERATED if task.test is task.training else 0.0
    taken = learned["miou"] >= figures["miou"] - tolerated
    if not taken:
        print(
            f"warning: the teacher that learned from the {'student' if together else 'masks'} is worse "
            f"than the one before, mIoU {learned['miou']:.3f} after {figures['miou']:.3f} on {task.kind}: "
            "it is not taken."
        )
    best, best_figures = (network, learned) if taken else (before, figures)
    return write_teacher(folder, task, best, {task.kind: best_figures, "taken": taken})


@torch.no_grad()
def _annotated_shot(task: Task, recipe: TeacherStage, teacher: FewShotCNN) -> Shot:
    """A random annotated sample and its mask; the teacher fills in what a partial one leaves open."""
    i, ignore = int(torch.randint(len(task.training.samples), ())), task.labels.ignore_index
    sample = task.training.samples.take([i])
    features = training_features(task.generator, sample, recipe)
    mask = task.training.masks[[i]]
    if not is_partial(mask, ignore):
        return Shot(features, mask)
    images = sample.images.to(task.generator.device)
    return Shot(features, *fill_in(mask, teacher.probabilities(features, images), ignore))


@torch.no_grad()
def _answered_shot(
    generator: FeatureGenerator, teacher: FewShotCNN, together: Together | None, psi: float
) -> Shot:
    """A fresh sample, drawn from the global random state, with the teacher's answer or that of both."""
    number = int(torch.randint(_SAMPLES, ()))
    latents = generator.latents(generator.random_inputs(_SEED, [number]), psi)
    drawn, features = generator.synthesise(latents)
    image = to_uint8(drawn)
    answer = teacher.probabilities(features, image)
    if together:
        answer = together.consensus.join(answer, together.student(image))
    confidence, classes = answer.max(1)
    return Shot(features, classes.to(torch.uint8), confidence)
