"""A drawing: samples, what a person did to their masks, and what the ensemble answers.

All that the page asks for and says passes through here. Methods may be called from any thread.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any

from PIL import Image

from common.errors import UserError
from datasets.labels import LabelSet, Mask
from datasets.sheets import to_array
from teacher.page.answers import Answers
from teacher.page.candidates import Candidates
from teacher.page.choice import doubt_of, most_worth
from teacher.page.journal import Drawing, Journal
from teacher.page.output import AnnotatedFolder
from teacher.page.strokes import NOTHING, Area, Line, read_stroke

Listener = Callable[[dict[str, Any]], None]

_RECENT = 6  # samples, the last ones that were on show, to which `next` does not lead back


class NoSample(UserError):
    """There is no such sample, or it is not drawn yet."""


class Session:
    """See above.

    Args:
        candidates: the samples, which are drawn while the page is open.
        journal: the strokes that were made so far, and where further ones go.
        output: the folder of annotated samples.
        labels: the classes.
    """

    def __init__(
        self, candidates: Candidates, journal: Journal, output: AnnotatedFolder, labels: LabelSet
    ) -> None:
        self._candidates, self._journal, self._output = candidates, journal, output
        self._labels, self._side = labels, candidates.generator.resolution
        self._lock = Lock()
        self._editions: dict[int, int] = {}
        self._masks: dict[int, Mask] = {}  # as they are, until they change
        self._empty = Drawing().mask(self._side)  # of all samples that nobody has drawn on
        self._recent: list[int] = []
        self._listeners: list[Listener] = []
        self._answers = Answers(candidates, len(labels), self._mask, self._save, self._tell)
        saved = output.is_in_step(self._drawn(), journal.count)
        strokes = {n: len(drawing.done) for n, drawing in journal.drawings.items()}
        self._answers.begin_with(strokes, saved)

    @property
    def error(self) -> BaseException | None:
        """What ended the answers, if anything did."""
        return self._answers.error

    @property
    def is_settled(self) -> bool:
        """Whether all strokes are learned and written and all answers are the last ones."""
        with self._lock:  # a stroke that is being written is not settled
            return self._answers.is_settled

    def start(self) -> None:
        """Begin to draw samples and to answer."""
        self._answers.start()

    def end(self) -> dict[str, Any] | None:
        """End; gives what the masks hold, none where there are none."""
        self._answers.end()
        return self._output.report(self._mask)

    def setup(self) -> dict[str, Any]:
        """What the page has to know first."""
        classes = [
            {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
            for name, colour in zip(self._labels.names, self._labels.colours, strict=True)
        ]
        drawn = list(self._journal.drawings)
        return {
            "classes": classes,
            "resolution": self._side,
            "samples": self._candidates.count,
            "ready": self._candidates.ready,
            "nothing": NOTHING,
            "features": self._candidates.packing.told,
            "folder": str(self._output.folder),
            "first": drawn[-1] if drawn else self._most_worth({}, [], []),
        }

    def image(self, sample: int) -> bytes:
        """A sample as PNG."""
        self._require(sample)
        file = io.BytesIO()
        Image.fromarray(to_array(self._candidates.images[sample])).save(file, format="PNG")
        return file.getvalue()

    def state(self, sample: int) -> dict[str, Any]:
        """What was done to a sample's mask; `edition` grows with each change."""
        self._require(sample)
        with self._lock:
            drawing = self._journal.drawings.get(sample, Drawing())
            strokes, undone = len(drawing.done), len(drawing.undone)
            edition = self._editions.get(sample, 0)
        mask = self._mask(sample)
        pixels = int((mask != NOTHING).sum())
        return {
            "sample": sample,
            "edition": edition,
            "strokes": strokes,
            "undo": strokes > 0,
            "redo": undone > 0,
            "pixels": pixels,
            "accepted": pixels == mask.size,
        }

    def mask(self, sample: int) -> bytes:
        """What was drawn on a sample: a byte for each pixel along the rows."""
        self._require(sample)
        return self._mask(sample).tobytes()

    def answer(self, sample: int) -> tuple[int, bytes] | None:
        """Version, and the ensemble's classes and doubt, a byte for each pixel of both; none so far."""
        self._require(sample)
        if (made := self._answers.answered.get(sample)) is None:
            return None
        return made.version, made.answer.classes.tobytes() + made.answer.doubt.tobytes()

    def add(self, sample: int, done: object) -> dict[str, Any]:
        """Take a stroke in JSON, or `undo` or `redo`; it is on disk when this returns the state.

        Raises:
            UserError: it is no stroke.
            NotSaved: the disk does not take it.
        """
        self._require(sample)
        if not isinstance(done, str):
            done = read_stroke(done, self._side, len(self._labels))
        with self._lock:
            if changed := self._journal.add(sample, done):
                self._editions[sample] = self._editions.get(sample, 0) + 1
                self._masks.pop(sample, None)
                self._answers.changed(sample)
        state = self.state(sample)
        if changed:
            self._tell({"event": "sample", "state": state})
        return state

    def next(self, sample: int) -> dict[str, Any]:
        """The sample that is most worth a stroke, now that `sample` is on show, and why."""
        with self._lock:
            if sample not in self._recent[-1:]:
                self._recent = [*self._recent, sample][-_RECENT:]
            drawn = {n for n, drawing in self._journal.drawings.items() if drawing.done}
            recent = set(self._recent)
        doubts = self._doubts()
        if (chosen := self._most_worth(doubts, drawn, recent)) is not None:
            need = f"doubt {min(1, doubts[chosen]):.0%}" if doubts else "it shows all parts"
            return {"sample": chosen, "why": f"{need}, and many like it have no strokes"}
        ready = self._candidates.ready
        fresh = (n for n in range(ready) if n not in drawn | recent)
        return {"sample": next(fresh, (sample + 1) % ready), "why": "all others have strokes"}

    def _most_worth(
        self, doubts: Mapping[int, float], drawn: Collection[int], but: Collection[int]
    ) -> int | None:
        """The sample that is most worth a stroke; all are in the same doubt where there is no answer."""
        looks = self._candidates.looks
        return most_worth(doubts or dict.fromkeys(range(len(looks)), 1.0), looks, drawn, but)

    def overview(self) -> list[dict[str, Any]]:
        """All samples that are drawn, by number."""
        doubts, found = self._doubts(), []
        for n in range(self._candidates.ready):
            state = self.state(n)
            kept = {name: state[name] for name in ("sample", "strokes", "pixels", "accepted")}
            found.append(kept | {"doubt": min(1.0, doubts[n]) if n in doubts else None})
        return found

    def wanted(self, samples: Sequence[int]) -> None:
        """Say which samples the page shows, those to be answered first in front."""
        for sample in samples:
            self._require(sample)
        self._answers.want(samples)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell a function what happens, from whatever thread; gives how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _require(self, sample: int) -> None:
        ready = self._candidates.ready
        if not 0 <= sample < ready:
            raise NoSample(f"there is no sample {sample}; {ready} are drawn so far.")

    def _mask(self, sample: int) -> Mask:
        with self._lock:
            if sample not in self._journal.drawings:
                return self._empty
            if sample not in self._masks:
                self._masks[sample] = self._journal.drawings[sample].mask(self._side)
            return self._masks[sample]

    def _save(self, changed: Collection[int]) -> None:
        with self._lock:
            strokes = self._journal.count
        self._output.update(self._drawn(), changed, self._mask, strokes)

    def _drawn(self) -> list[int]:
        """Samples with a class on at least one pixel, in the order in which they were begun."""
        with self._lock:
            begun = list(self._journal.drawings)
        return [n for n in begun if (self._mask(n) != NOTHING).any()]

    def _doubts(self) -> dict[int, float]:
        """Doubt of every sample with an answer, where classes with few strokes count more."""
        strokes = [0] * len(self._labels)
        with self._lock:
            every = [
                stroke for drawing in self._journal.drawings.values() for stroke in drawing.done
            ]
        for stroke in every:
            if isinstance(stroke, Line | Area) and stroke.label != NOTHING:
                strokes[stroke.label] += 1
        made = dict(self._answers.answered)
        return {n: doubt_of(answered.answer, strokes) for n, answered in made.items()}
