"""How a student is trained: the options of the stage `student`."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate.utils import parse_flag_from_env

from common.errors import require_counts
from datasets.transforms import Augmentation
from student.network import NetworkConfig


@dataclass(frozen=True)
class StudentStage:
    """Stage `student`.

    Args:
        network: the architecture.
        source: what to train on: the pseudo-labels of the run; the same samples made while the student
            trains, without a disk; or rendered faces with exact masks.
        faces: number of rendered faces, where they are the source.
        resolution: of the rendered faces, where they are the source.
        steps: optimiser steps.
        batch_size: pictures per step over all processes.
        targets: learn the most probable class of every pixel, or the probabilities of all that are
            stored (label.top_k).
        temperature: of soft targets: probabilities of teacher and student are flattened by it.
        learning_rate: AdamW's peak learning rate, after a linear warm-up and before a cosine to zero.
        confidence_power: power of the teacher's confidence that weights each pixel; 0 weighs all alike.
        dice_weight: weight of the Dice loss beside cross-entropy.
        lovasz_weight: weight of the Lovasz-Softmax loss beside them, taken over a quarter of the pixels.
        ema_decay: decay of the moving average of the weights, which is what is evaluated and kept.
        val_images: pictures of the source kept from training, for validation.
        val_every: steps between validations, each with a checkpoint.
        grad_accumulation_steps: parts that a process takes its share of a batch in, one after the other, to need less
            memory; their gradients make one step.
        precision: of the convolutions under accelerate; auto for bf16 where the device computes in it.
        compile: let torch.compile make the network faster; it needs a C++ compiler.
        workers: processes that load and augment; with none, and for samples made online, a thread.
    """

    network: NetworkConfig = NetworkConfig()
    augmentation: Augmentation = Augmentation()
    source: Literal["pseudo_labels", "online", "faces"] = "pseudo_labels"
    targets: Literal["hard", "soft"] = "hard"
    temperature: float = 1.0
    faces: int = 50_000
    resolution: int = 64
    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    grad_clip_norm: float = 1.0
    confidence_power: float = 1.0
    dice_weight: float = 0.5
    lovasz_weight: float = 1.0
    ema_decay: float = 0.995
    val_images: int = 200
    val_every: int = 250
    grad_accumulation_steps: int = 1
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    compile: bool = False
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (
            "faces",
            "resolution",
            "steps",
            "batch",
            "held_back",
            "evaluate_every",
            "accumulate",
        )
        require_counts("student", self, *counts)


def mixed_precision(config: StudentStage) -> str:
    """What accelerate is asked for."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "no"


def learning_rate(config: StudentStage, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))
