"""How a student is trained: the options of the stage `student`."""

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate.utils import parse_flag_from_env

from common.errors import UserError
from common.options import require_counts
from common.processors import native_precision
from datasets.transforms import Augmentation
from student.base import NetworkConfig


@dataclass(frozen=True)
class OwnAnswer:
    """What a student learns from its own moving average, which sees each image before augmentation.

    Args:
        teacher_weight: weight of the pseudo-labels in what the student learns of a pixel; the rest is the
            average's answer. 1 for pseudo-labels alone.
        after: steps before the average is asked for the first time; in a later round it is asked from the
            start.
        unlabelled: images without masks to learn from as well, labelled by the average alone: none of them,
            those of `sources.photographs`, or rendered faces.
        unlabelled_batch: such images per step over all processes, beside those of `student.batch_size`.
        unlabelled_faces: number of rendered faces, where these are the images without masks.
        least_confidence: least probability of a pixel's class, on these images, for it to count.
        mix: probability that such an image is covered by the pixels of half the classes of a labelled one.
        colours: probability that a labelled image takes on the colours of such an image.
    """

    teacher_weight: float = 1.0
    after: int = 250
    unlabelled: Literal["none", "photographs", "rendered"] = "none"
    unlabelled_batch: int = 24
    unlabelled_faces: int = 2000
    least_confidence: float = 0.0
    mix: float = 1.0
    colours: float = 0.0

    def __post_init__(self) -> None:
        require_counts("student.own_answer", self, "unlabelled_batch", "unlabelled_faces")
        for name in ("teacher_weight", "least_confidence", "mix", "colours"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise UserError(
                    f"student.own_answer.{name} is {share}; it is a share, from 0 to 1."
                )
        if self.colours and self.unlabelled == "none":
            raise UserError(
                f"student.own_answer.colours is {self.colours}, but there are no images to take them from; "
                "set student.own_answer.unlabelled, or colours to 0."
            )

    @property
    def beside(self) -> int:
        """Images without masks in a step."""
        return 0 if self.unlabelled == "none" else self.unlabelled_batch

    @property
    def is_asked(self) -> bool:
        """Whether the average labels anything."""
        return self.teacher_weight < 1 or self.unlabelled != "none"


@dataclass(frozen=True)
class StudentStage:
    """Stage `student`.

    Args:
        network: architecture of the student.
        augmentation: random changes to the training images.
        source: what to train on: the run's pseudo-labels; the same samples made while the student trains,
            without a disk (online); or rendered faces with exact masks.
        targets: what to learn of every pixel: its most probable class (hard), or the probabilities of all
            classes that are stored (soft, see label.top_k).
        temperature: temperature of soft targets, which flattens the probabilities of teacher and student.
        faces: number of rendered faces, where they are the source.
        resolution: side of the rendered faces in pixels, where they are the source.
        steps: optimiser steps.
        annotated_share: samples of `sources.annotations`, with their masks, that come to the labelled ones,
            as a share of these; without annotations it is 0.
        half_size_share: share of the steps, the first ones, that see images at half their size; such a step
            takes about a quarter of the time.
        batch_size: images per step over all processes.
        learning_rate: peak learning rate of AdamW, reached by a linear warm-up and followed by a cosine to
            zero.
        weight_decay: weight decay of AdamW, for convolutions and matrices only, not for biases and norms.
        warmup_steps: steps of the linear warm-up.
        grad_clip_norm: largest norm of the gradient; a larger gradient is scaled down to it.
        confidence_power: power of the teacher's confidence that weights each pixel; 0 weights all alike.
        dice_weight: weight of the Dice loss beside cross-entropy.
        lovasz_weight: weight of the Lovasz-Softmax loss beside both, taken over a quarter of the pixels.
        own_answer: what the student learns from its own moving average.
        ema_decay: decay of the moving average of the weights, which is what is evaluated and kept.
        val_images: images of the source that are kept from training, for validation.
        val_every: steps between validations, each with a checkpoint.
        grad_accumulation_steps: parts that a process takes its share of a batch in, one after the other, to
            need less memory; their gradients make one step.
        precision: number format of the convolutions: 32-bit floats (no), bf16, fp16, or auto for bf16 where
            the device computes in it; where it is left out or auto, `accelerate launch
            --mixed_precision` decides, and where both name one, they must agree.
        compile: make the network faster with torch.compile, which needs a C++ compiler.
        workers: processes that load and augment images; with 0, and for samples made online, a thread does.
        seed: seed of the initial weights, the order of the samples and their augmentation.
    """

    network: NetworkConfig = NetworkConfig()
    augmentation: Augmentation = Augmentation()
    source: Literal["pseudo_labels", "online", "faces"] = "pseudo_labels"
    targets: Literal["hard", "soft"] = "hard"
    temperature: float = 1.0
    faces: int = 50_000
    resolution: int = 64
    steps: int = 1500
    annotated_share: float = 0.0
    half_size_share: float = 0.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    grad_clip_norm: float = 1.0
    confidence_power: float = 1.0
    dice_weight: float = 0.5
    lovasz_weight: float = 1.0
    own_answer: OwnAnswer = OwnAnswer()
    ema_decay: float = 0.995
    val_images: int = 200
    val_every: int = 250
    grad_accumulation_steps: int = 1
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    compile: bool = False
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts(
            "student", self, "faces", "resolution", "steps", "batch_size", "val_images", "val_every",
            "grad_accumulation_steps",
        )  # fmt: skip
        if not 0 <= self.annotated_share <= 1:
            raise UserError(
                f"student.annotated_share is {self.annotated_share}; it is a share, from 0 to 1."
            )
        if not 0 <= self.half_size_share <= 1:
            raise UserError(
                f"student.half_size_share is {self.half_size_share}; a share of the steps lies between 0 "
                "(none of them) and 1 (all)."
            )


@dataclass(frozen=True)
class GoingOn:
    """How the student of a later round is trained, where it differs from the first one.

    Args:
        steps: optimiser steps; none for student.steps.
        learning_rate: peak learning rate; none for student.learning_rate.
        batch_size: images per step; none for student.batch_size.
        from_weights: begin with the weights of the student before; else with new ones.
    """

    steps: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    from_weights: bool = True

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size")
        require_counts("rounds.student", self, *(n for n in counts if getattr(self, n) is not None))


@dataclass(frozen=True)
class StudentTraining:
    """What the stage `student` depends on.

    Args:
        recipe: how the student is trained.
        online: settings of what makes the samples while it trains, for the source `online`; else none.
        kept_back: number of the photographs that it does not see.
    """

    recipe: StudentStage
    online: Any = None
    kept_back: int = 0


@dataclass(frozen=True)
class StudentAgain(StudentTraining):
    """What the stage depends on in a later round.

    Args:
        from_weights: begin with the weights of the student of the round before.
    """

    from_weights: bool = True


def launched_precision() -> Literal["bf16", "fp16"] | None:
    """What `accelerate launch --mixed_precision`, or its config file, names.

    Its `no` cannot be told from its default, so it names nothing.

    Raises:
        UserError: it is neither of the two; no student is trained in fp8.
    """
    named = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if named == "no":
        return None
    if named == "bf16":
        return "bf16"
    if named == "fp16":
        return "fp16"
    raise UserError(
        f"accelerate launch asks for the mixed precision {named}, which no stage computes in; give it "
        "--mixed_precision no, bf16 or fp16."
    )


def mixed_precision(recipe: StudentStage) -> str:
    """The precision to train in as accelerate names it: `no`, `bf16` or `fp16`.

    Raises:
        UserError: `accelerate launch` names another one than the recipe.
    """
    launched = launched_precision()
    if recipe.precision != "auto":
        if launched not in (None, recipe.precision):
            raise UserError(
                f"student.precision is {recipe.precision}, but accelerate launch asks for {launched}; "
                "leave one of them out, or let them agree."
            )
        return recipe.precision
    if launched:
        return launched
    on_gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    return native_precision(torch.device("cuda" if on_gpu else "cpu"))
