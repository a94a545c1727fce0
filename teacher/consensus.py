"""What teacher and student hold together: the labels of the rounds in which they teach each other.

Shapes: B = batch, C = classes, S = the image's side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.answers import join_answers
from common.errors import UserError
from datasets.labels import LabelSet
from teacher.fewshot import image_score, load_teacher, uncertainty
from teacher.generators.base import FeatureGenerator
from teacher.generators.choosing import SampleScore
from teacher.generators.sampling import to_uint8

Student = Callable[[Tensor], Tensor]  # images, uint8 [B, 3, S, S] -> probabilities [B, C, S, S]
# Reads a finished student: its folder, the classes, whether mirror images are averaged, the device.
OpenStudent = Callable[[Path, LabelSet, bool, torch.device], Student]


@dataclass(frozen=True)
class Consensus:
    """How the answers of teacher and student are joined.

    Args:
        teacher_weight: weight of the teacher's answer; the student's is what is left to 1.
        mirror: average the student's answer over an image and its mirror image.
    """

    teacher_weight: float = 0.2
    mirror: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_weight <= 1:
            raise UserError(
                f"rounds.consensus.teacher_weight is {self.teacher_weight}; it is a share, from 0 to 1."
            )

    def join(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Both answers [B, C, S, S] as one."""
        return join_answers(teacher, student, self.teacher_weight)


class Together(NamedTuple):
    """The student that answers beside the teacher, and how both answers are joined."""

    student: Student
    consensus: Consensus


def open_together(
    consensus: Consensus,
    student: Path,
    labels: LabelSet,
    device: torch.device,
    open_student: OpenStudent,
) -> Together:
    """Read the student that is to answer beside the teacher.

    Args:
        student: its folder.
        open_student: reads it.
    """
    return Together(open_student(student, labels, consensus.mirror, device), consensus)


def open_disagreement(
    teacher: Path,
    student: Path,
    labels: LabelSet,
    generator: FeatureGenerator,
    open_student: OpenStudent,
) -> SampleScore:
    """How much a finished teacher and a finished student differ on a sample, as a score of it.

    The Jensen-Shannon divergence of their answers, in nats, over the most disputed tenth of its pixels.

    Args:
        teacher, student: their folders.
        open_student: reads the student.
    """
    features_to_classes = load_teacher(teacher, generator, labels.names)
    images_to_classes = open_student(student, labels, False, generator.device)

    def score(images: Tensor, features: Sequence[Tensor]) -> Tensor:
        drawn = to_uint8(images)
        answers = [features_to_classes.probabilities(features, drawn), images_to_classes(drawn)]
        return image_score(uncertainty(torch.stack(answers, 1)))

    return score
