"""The thread that works while a person draws: it draws the samples, learns from strokes and answers.

What comes first: strokes that it has not seen; samples that are not drawn yet; learning on until the
answers settle; answers that are older than what was learned.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from threading import Condition, Thread
from typing import Any, NamedTuple

from common.errors import UserError, brief
from datasets.labels import Mask
from teacher.page.candidates import Candidates
from teacher.page.strokes import NOTHING
from teacher.stroke_learner import Answer, StrokeLearner

Tell = Callable[[dict[str, Any]], None]
Save = Callable[[Collection[int]], None]  # writes the masks of these samples to the disk

_BURST = 0.25  # seconds of learning before the first answer to a stroke
_AT_ONCE = 5  # steps between two looks at the clock
_SETTLED = 300  # steps after which an answer no longer changes much
_TOLD_AT_ONCE, _SHOWN_AT_ONCE = 12, 4  # answers told together, of any samples and of those on show


class Answered(NamedTuple):
    """An answer, and how much had been learned for it."""

    version: int
    answer: Answer


class Answers:
    """Learns from masks and answers for samples, in a thread of its own.

    Args:
        candidates: the samples, not all of which need be drawn.
        classes: number of classes.
        masks: gives the present mask of a sample.
        save: writes masks that changed; it comes first.
        tell: is told what happened.
    """

    def __init__(
        self,
        candidates: Candidates,
        classes: int,
        masks: Callable[[int], Mask],
        save: Save,
        tell: Tell,
    ) -> None:
        self._candidates, self._masks, self._save, self._tell = candidates, masks, save, tell
        channels, side = candidates.packing.channels, candidates.generator.resolution
        self._learner = StrokeLearner(channels, classes, side, NOTHING)
        self.answered: dict[int, Answered] = {}
        self.error: BaseException | None = None
        self._awake = Condition()
        self._changed: dict[int, None] = {}  # samples whose masks changed, in order
        self._unseen: dict[int, None] = {}  # those of them that nothing has learned from yet
        self._unsaved: dict[int, None] = {}  # those of them that are not in the folder yet
        self._failed, self._offered = False, 0
        self._wanted: list[int] = []
        self._version, self._steps_left, self._ended = 0, 0, False
        self._thread = Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def begin_with(self, samples: Iterable[int], saved: bool) -> None:
        """Say which samples have strokes of an earlier time, before the start.

        Args:
            saved: whether their masks are written already.
        """
        self._unseen.update(dict.fromkeys(samples))
        if not saved:
            self._unsaved.update(self._unseen)

    def end(self) -> None:
        """End, after all masks that changed are written."""
        with self._awake:
            self._ended = True
            self._awake.notify()
        self._thread.join()

    def changed(self, sample: int) -> None:
        """Say that the mask of a sample is another one."""
        with self._awake:
            self._changed[sample] = None
            self._awake.notify()

    def want(self, samples: Sequence[int]) -> None:
        """Say which samples somebody looks at: they are answered first."""
        with self._awake:
            self._wanted = list(samples)
            self._awake.notify()

    def _run(self) -> None:
        try:
            while self._work():
                pass
        except BaseException as error:
            self.error = error
            told = error if isinstance(error, UserError) else f"an error ended it ({brief(error)})"
            self._tell({"event": "problem", "text": f"The answers have stopped: {told}"})

    def _work(self) -> bool:
        """Do what comes first; gives whether there may be more."""
        with self._awake:
            while not (self._changed or self._ended or self._is_busy()):
                self._awake.wait()
            changed, self._changed = self._changed, {}
            self._unseen.update(changed)
            self._unsaved.update(changed)
        candidates = self._candidates
        # What was drawn an earlier time waits until its samples are there again: the folder needs these.
        may_save = all(n < candidates.ready for n in self._unsaved)
        if self._unsaved and may_save and (changed or self._ended or not self._failed):
            self._save_changes()
        if self._ended and may_save:
            return False
        if self._ended:
            self._draw_more()
        elif self._see():
            self._learn_a_little()
        elif waiting := self._stale(self._wanted):
            self._answer(waiting[:_SHOWN_AT_ONCE])
        elif candidates.ready < candidates.count:
            self._draw_more()
        elif self._steps_left:
            self._learn_on()
        else:
            self._answer(self._stale(range(candidates.ready))[:_TOLD_AT_ONCE])
        return True

    def _save_changes(self) -> None:
        """Write what changed; a disk that is full is told, and tried again with the next stroke."""
        try:
            self._save(self._unsaved)
        except UserError as error:
            if self._ended:
                raise
            self._failed = True
            self._tell({"event": "problem", "text": str(error)})
        else:
            self._unsaved, self._failed = {}, False

    def _draw_more(self) -> None:
        candidates = self._candidates
        candidates.draw_more()
        for pack in candidates.packs[self._offered :]:
            self._learner.offer(pack)
        self._offered = candidates.ready
        self._tell({"event": "ready", "samples": candidates.ready, "of": candidates.count})

    @property
    def is_settled(self) -> bool:
        """Whether all strokes are learned and written and all answers are the last ones."""
        with self._awake:
            return not (self._changed or self._unsaved or self._is_busy())

    def _is_busy(self) -> bool:
        candidates = self._candidates
        unfinished = candidates.ready < candidates.count or self._steps_left > 0
        waiting = self._unseen or (self._unsaved and not self._failed)
        return unfinished or bool(waiting or self._stale(range(candidates.ready)))

    def _stale(self, samples: Sequence[int]) -> list[int]:
        """Those of some samples that are drawn and whose answer is older than what was learned."""
        if self._learner.knows_nothing:
            return []
        ready, made = self._candidates.ready, self.answered
        return [
            n for n in samples if n < ready and (n not in made or made[n].version < self._version)
        ]

    def _see(self) -> bool:
        """Take in the masks that changed, of samples that are drawn; gives whether there were any."""
        found = [n for n in self._unseen if n < self._candidates.ready]
        if found:
            self._steps_left = _SETTLED
        for n in found:
            self._learner.see(n, self._candidates.packs[n], self._masks(n))
            del self._unseen[n]
        return bool(found)

    def _learn_a_little(self) -> None:
        """Learn what was just drawn, and answer before it is settled: somebody waits."""
        begun = time.perf_counter()
        if self._learner.knows_nothing:  # all was undone
            self.answered.clear()
            self._steps_left = 0
            self._tell({"event": "answer", "samples": [], "version": self._version, "seconds": 0.0})
            return
        while time.perf_counter() - begun < _BURST:
            self._learner.learn(_AT_ONCE)
        self._version += 1
        self._answer(self._stale(self._wanted[:1]), begun)

    def _learn_on(self) -> None:
        """Some more steps; after the last ones, all answers are to be made anew."""
        steps = min(_AT_ONCE, self._steps_left)
        self._learner.learn(steps)
        if steps == self._steps_left:
            self._version += 1
        self._steps_left -= steps

    def _answer(self, samples: Sequence[int], begun: float | None = None) -> None:
        """Answer for some samples, or fewer where a stroke comes between, and tell.

        Args:
            begun: when learning for these answers began.
        """
        begun, done = begun or time.perf_counter(), list[int]()
        for n in samples:
            answer = self._learner.answer(self._candidates.packs[n], self._candidates.images[n])
            self.answered[n] = Answered(self._version, answer)
            done.append(n)
            if self._changed:
                break
        seconds = round(time.perf_counter() - begun, 3)
        told = {"samples": done, "version": self._version, "seconds": seconds}
        self._tell({"event": "answer", **told})
