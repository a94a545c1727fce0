"""Draws samples by number and labels them, by the teacher or by teacher and student together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.options import require_counts
from common.processors import native_precision
from common.stage_folder import StageFolder
from datasets.labels import LabelSet
from datasets.pseudo_labels import Encoded, Labelled, encode
from teacher.consensus import Consensus, OpenStudent, Together, open_together
from teacher.fewshot import FewShotCNN, image_score, load_teacher, uncertainty
from teacher.generators.base import FeatureGenerator, Latents
from teacher.generators.registry import load_generator
from teacher.generators.sampling import chunks, feature_floats, sample_batch_size, to_uint8


@dataclass(frozen=True)
class LabelStage:
    """Stage `label`.

    Args:
        count: number of samples to label.
        seed: seed of the samples; one never used for annotation.
        truncation: psi of the samples; 1 for full variety.
        shard_size: samples in a shard.
        batch_size: samples per batch; none for as many as suit the device.
        precision: number format of the convolutions: 32-bit floats (no), bf16, or auto for bf16 where the
            device computes in it.
        top_k: classes whose probability is kept for every pixel: 1 for hard labels with their
            confidence, more for soft labels.
        drop_uncertain: share of the samples, the most uncertain ones, that is not trained on.
    """

    count: int = 4000
    seed: int = 1000
    truncation: float = 1.0
    shard_size: int = 250
    batch_size: int | None = None
    precision: Literal["auto", "no", "bf16"] = "no"
    top_k: int = 1
    drop_uncertain: float = 0.0

    def __post_init__(self) -> None:
        require_counts("label", self, "count", "shard_size", "top_k")
        if not 0 <= self.drop_uncertain < 1:
            raise UserError(
                f"label.drop_uncertain is {self.drop_uncertain}; it is a share, from 0 to below 1."
            )


@dataclass(frozen=True)
class LabelTogether:
    """What the stage depends on in a later round, where the student of the round before labels as well.

    Args:
        label: the options of the stage.
        consensus: how both answers are joined.
    """

    label: LabelStage
    consensus: Consensus


def settled(config: LabelStage, folder: StageFolder, device: torch.device) -> LabelStage:
    """The settings with the precision that `auto` means on this device."""
    if config.precision != "auto":
        return config
    precision = folder.decided("label.precision", lambda: native_precision(device))
    return replace(config, precision="bf16" if precision == "bf16" else "no")


class ScoredSample(NamedTuple):
    """A labelled sample and what is known of it as a whole.

    Attributes:
        sample: the image and its labels.
        score: its uncertainty.
        agreement: share of the pixels that teacher and student give the same class; none without a student.
    """

    sample: Labelled
    score: float
    agreement: float | None = None


class Labeller:
    """Draws samples by number and labels them.

    Args:
        config: with a precision other than `auto`.
        together: the student that labels beside the teacher, in a later round.

    Raises:
        UserError: `top_k` is beyond the label set.
    """

    def __init__(
        self,
        config: LabelStage,
        generator: FeatureGenerator,
        teacher: FewShotCNN,
        labels: LabelSet,
        together: Together | None = None,
    ) -> None:
        assert config.precision != "auto"
        if config.top_k > len(labels):
            raise UserError(
                f"label.top_k is {config.top_k}, but the label set has {len(labels)} classes."
            )
        self.config, self.generator, self.teacher, self.labels = config, generator, teacher, labels
        self.together, self.device = together, generator.device
        at_once = teacher.samples_at_once(self.device)
        beside = 0 if at_once else teacher.widest
        self.batch_size = config.batch_size or sample_batch_size(generator, beside)
        # Four times what it holds at once.
        features = self.batch_size * feature_floats(generator)
        self.batch_bytes = 16 * (features + (at_once or self.batch_size) * teacher.widest)

    def batches(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of samples that are made at once."""
        return chunks(self.generator, numbers, self.batch_size)

    def inputs(self, numbers: list[int]) -> Latents:
        """What samples begin with, on the CPU."""
        return self.generator.random_inputs(self.config.seed, numbers)

    @torch.no_grad()
    def __call__(self, inputs: Latents) -> list[ScoredSample]:
        """Label the samples of these inputs."""
        config = self.config
        latents = self.generator.latents(inputs, config.truncation)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            drawn, features = self.generator.synthesise(latents)
            members = self.teacher(features).float().softmax(2)
        images = to_uint8(drawn)
        answer = self.teacher.together(members, images)
        agreement: Sequence[float | None] = [None] * len(images)
        if self.together:
            answer, agreement = self._with_student(images, answer)
            members = answer[:, None]
        shares, classes = answer.topk(config.top_k, dim=1)
        shares = (shares * 255 + 0.5).to(torch.uint8)
        ranked = torch.stack([classes.to(torch.uint8), shares], 2).flatten(1, 2).cpu()
        scores = image_score(uncertainty(members)).tolist()
        return [
            ScoredSample(Labelled(image, planes[0], planes[1], planes[2:]), score, agreed)
            for image, planes, score, agreed in zip(
                images.cpu(), ranked, scores, agreement, strict=True
            )
        ]

    def _with_student(self, images: Tensor, teacher: Tensor) -> tuple[Tensor, list[float]]:
        """What the student makes of the images, joined with the teacher's answer [B, C, S, S].

        Returns:
            The joined answer, and on each sample the share of pixels on which both agree.
        """
        assert self.together is not None
        student = self.together.student(images)
        agreement = (teacher.argmax(1) == student.argmax(1)).float().mean((1, 2))
        return self.together.consensus.join(teacher, student), agreement.tolist()

    def encode(self, numbered: tuple[int, ScoredSample]) -> Encoded:
        """A sample and its number as files."""
        number, (sample, score, agreement) = numbered
        return encode(number, sample, score, self.labels, agreement)


def open_labeller(
    config: LabelStage | LabelTogether,
    folder: StageFolder,
    device: torch.device,
    open_student: OpenStudent | None = None,
) -> Labeller:
    """A stage's labeller, from its inputs `generator`, `labels`, `teacher` and perhaps `student_before`.

    Args:
        open_student: reads the student of the round before; needed in later rounds only.
    """
    inputs, together = folder.inputs, None
    labels = LabelSet.load(inputs["labels"])
    if isinstance(config, LabelTogether):
        assert open_student is not None
        student = inputs["student_before"]
        together = open_together(config.consensus, student, labels, device, open_student)
        config = config.label
    generator = load_generator(inputs["generator"], device)
    teacher = load_teacher(inputs["teacher"], generator, labels.names)
    return Labeller(settled(config, folder, device), generator, teacher, labels, together)
