"""What comes out: a folder of annotated samples with partial masks, in step with what is drawn."""

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from datasets.annotations import (
    INDEX,
    STROKES,
    image_path,
    mask_path,
    read_index,
    write_index,
    write_report,
    write_samples,
)
from datasets.labels import LabelSet, Mask, write_mask
from teacher.page.candidates import Candidates
from teacher.page.strokes import NOTHING

FOLDER = "annotated"


class AnnotatedFolder:
    """The annotated samples of a drawing, those with a class on at least one pixel.

    Args:
        folder: where they are to be.
        labels: the classes.
        candidates: what is drawn on.
        generator_hash: of the generator.
        origin: how the candidates were drawn, for the record.

    Attributes:
        folder: that folder.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSet,
        candidates: Candidates,
        generator_hash: str,
        origin: dict[str, Any],
    ) -> None:
        self.folder, self._labels, self._candidates = folder, labels, candidates
        self._generator_hash, self._origin = generator_hash, origin
        self._written: list[int] = []  # samples whose files are there, in order

    def is_in_step(self, drawn: Sequence[int], strokes: int) -> bool:
        """Whether the folder holds these strokes already.

        Args:
            drawn, strokes: see `update`.
        """
        if not (self.folder / INDEX).exists():
            return not drawn
        origin = read_index(self.folder)["origin"]
        if (origin.get("indices"), origin.get(STROKES)) != (list(drawn), strokes):
            return False
        self._written = list(drawn)
        return True

    def update(
        self,
        drawn: Sequence[int],
        changed: Collection[int],
        mask: Callable[[int], Mask],
        strokes: int,
    ) -> None:
        """Bring the folder in step.

        Args:
            drawn: samples with a class on at least one pixel, in the order in which they were begun.
            changed: samples whose masks changed.
            mask: gives the mask of a sample.
            strokes: how much was done so far, by which the folder is known to be in step.

        Raises:
            UserError: the disk is full.
        """
        drawn, before = list(drawn), self._written
        if not drawn:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._written = []
            return
        # Without an index the folder is none, as long as its files do not belong together.
        (self.folder / INDEX).unlink(missing_ok=True)
        self._written = []
        kept = len(before) if drawn[: len(before)] == before else 0
        for place, n in enumerate(drawn):
            if place >= kept or n in changed:
                write_mask(mask_path(self.folder, place), self._finished(mask(n)), self._labels)
        origin = self._origin | {STROKES: strokes, "indices": drawn}
        if drawn == before:
            write_index(self.folder, len(drawn), self._generator_hash, origin)
        else:
            samples = self._candidates.samples(drawn)
            write_samples(self.folder, samples, self._generator_hash, origin, kept)
            self._remove_others(len(drawn))
        self._written = drawn

    def _remove_others(self, count: int) -> None:
        """Remove images and masks beyond the first `count`."""
        kept = {image_path(self.folder, place).name for place in range(count)}
        for path in self.folder.glob("*/*.png"):
            if path.name not in kept:
                path.unlink()

    def report(self, mask: Callable[[int], Mask]) -> dict[str, Any] | None:
        """Write the sheet and the report; gives what the masks hold, none where there are none."""
        if not self._written:
            return None
        samples = self._candidates.samples(self._written)
        masks = [self._finished(mask(n)) for n in self._written]
        return write_report(self.folder, samples, masks, self._labels)

    def _finished(self, mask: Mask) -> Mask:
        """With the label set's own index for what is ignored."""
        finished = mask.copy()
        finished[mask == NOTHING] = self._labels.ignore_index
        return finished
