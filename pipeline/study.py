"""Studies: whole chains over seeds, draws of the labelled samples and their number, side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from accelerate import PartialState

from common.errors import UserError
from datasets.annotations import count_samples
from evaluation.study import summarise
from pipeline.config import Config
from pipeline.depends import annotations
from pipeline.inputs import need, resolve
from pipeline.run import distill


@dataclass(frozen=True)
class Variant:
    """One chain of a study.

    Attributes:
        labels: annotated samples that it learns from.
        number: number of the chain; added to its seeds.
    """

    labels: int
    number: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.labels}-labels-{self.number}"


def run_study(config: Config, repeat: int, shots: Sequence[int]) -> None:
    """Run whole chains in the folder `repeats` of the run; finished ones are taken as they are.

    Args:
        repeat: chains for each number of labelled samples. Their number is added to the seeds, and to
            `teacher.shots_seed` where that is set.
        shots: numbers of labelled samples; none for the config's own.
    """
    folder, inputs, runs = config.run.dir / "repeats", resolve(config), []
    generator = need(inputs, "generator").path
    folders = [need(inputs, name).path for name in annotations(config)]
    base = config.teacher.shots or sum(map(count_samples, folders))
    for variant in variants(repeat, shots or [base]):
        run = replace(config.run, dir=folder / variant.name)
        sources = replace(config.sources, generator=generator)
        PartialState().print(f"study: {run.dir}")
        distill(varied(replace(config, run=run, sources=sources), variant, base))
        runs.append(run.dir)
    if PartialState().is_main_process:
        summarise(folder, runs)
        print(f"study: open {folder / 'report.html'}")


def variants(repeat: int, shots: Sequence[int]) -> list[Variant]:
    """Every number of labels so many times, all numbers once before any is repeated.

    Raises:
        UserError: one of them is no count.
    """
    if repeat < 1 or any(n < 1 for n in shots):
        raise UserError("--repeat and the numbers of --shots are counts, 1 at least.")
    return [Variant(labels, number) for number in range(repeat) for labels in shots]


def varied(config: Config, variant: Variant, base: int) -> Config:
    """The config with a variant's seeds and number of labels; test sets stay.

    Number 0 with as many labels as the config has is the config itself: a finished run can be moved there.

    Args:
        base: labelled samples that the config itself learns from.
    """
    number, teacher = variant.number, config.teacher
    epochs = enough_epochs(teacher.epochs, base, variant.labels)
    teacher = replace(
        teacher,
        shots=teacher.shots if variant.labels == base else variant.labels,
        shots_seed=None if teacher.shots_seed is None else teacher.shots_seed + number,
        epochs=epochs,
        lr_decay_epoch=teacher.lr_decay_epoch * epochs // teacher.epochs,
        seed=teacher.seed + number,
    )
    label = replace(config.label, seed=config.label.seed + number)
    student = replace(config.student, seed=config.student.seed + number)
    return replace(config, teacher=teacher, label=label, student=student)


def enough_epochs(epochs: int, shots: int, labels: int) -> int:
    """Passes over `labels` samples that make no fewer steps than `epochs` over `shots`."""
    return max(epochs, math.ceil(epochs * shots / labels))
