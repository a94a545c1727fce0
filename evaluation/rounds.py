"""What each round has made of the student, as a table: self-training can confirm its own errors."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.stage_folder import read_manifest
from evaluation.rows import STUDENT, earlier_rounds
from evaluation.tables import Table

_SETS = {"annotations": "on what the teacher learned", "test_annotations": "on annotated samples"}


def read_rounds(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The verdicts of all rounds after the first one, as their students' manifests have them.

    Args:
        inputs: of the stage `compare`, with the students of all rounds.
    """
    students = [*earlier_rounds(STUDENT, inputs), STUDENT]
    figures = [read_manifest(inputs[name])["figures"] for name in students]
    return [verdict for f in figures if (verdict := f.get("round"))]


def rounds_table(rounds: list[dict[str, Any]]) -> Table:
    """A row for each round after the first one, mIoU before and after it."""
    sets = [name for name in _SETS if name in rounds[0]["miou"]]
    body = [
        [
            str(number),
            *(_change(verdict["miou"][name]) for name in sets),
            f"{100 * verdict['agreement']:.1f}",
            "yes" if verdict["taken"] else "no",
        ]
        for number, verdict in enumerate(rounds, 2)
    ]
    header = ["round", *(_SETS[name] for name in sets), "same class as before", "taken"]
    return Table("The student's rounds", header, body, list(_notes(rounds)))


def _notes(rounds: list[dict[str, Any]]) -> Iterator[str]:
    """The share of the pixels that each class had and has in each round."""
    yield "mIoU in percent before and after the round; a round that is worse is not taken"
    for number, verdict in enumerate(rounds, 2):
        shares = ", ".join(f"{name} {_change(pair)}" for name, pair in verdict["shares"].items())
        yield f"round {number}, percent of the pixels of pseudo-labelled images: {shares}"


def _change(pair: list[float]) -> str:
    before, after = (100 * value for value in pair)
    return f"{before:.1f} -> {after:.1f}"
