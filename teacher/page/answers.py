"""The thread that works while a person draws: it draws the samples, learns from strokes and answers.

What comes first: a stroke that was just made, and the answer to it; strokes of an earlier time; samples
that are not drawn yet; answers that are older than what was learned.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Condition, Thread
from typing import Any, NamedTuple

from common.errors import UserError, brief
from datasets.labels import Mask
from teacher.page.candidates import Candidates
from teacher.page.strokes import NOTHING
from teacher.stroke_learner import Answer, StrokeLearner

Tell = Callable[[dict[str, Any]], None]
Save = Callable[[Collection[int]], None]  # writes the masks of these samples to the disk

# Steps of learning for each stroke, however long the next one takes to come: the ensemble learns its own
# answers too, and with more steps these are too firm for the next stroke to correct.
STEPS = 15
_AT_ONCE = 5  # steps between two looks at what else there is to do
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
        # Samples whose masks changed, in order, and how often.
        self._changed: dict[int, int] = {}
        self._unseen: dict[int, int] = {}  # those of them that nothing has learned from yet
        self._earlier: dict[int, int] = {}  # the same, of an earlier time
        self._unsaved: dict[int, None] = {}  # those of them that are not in the folder yet
        self._failed, self._offered = False, 0
        self._wanted: list[int] = []
        self._version, self._steps_left, self._ended = 0, 0, False
        self._thread = Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def begin_with(self, strokes: Mapping[int, int], saved: bool) -> None:
        """Say which samples have how many strokes of an earlier time, before the start.

        Args:
            saved: whether their masks are written already.
        """
        self._earlier.update(strokes)
        if not saved:
            self._unsaved.update(dict.fromkeys(strokes))

    def end(self) -> None:
        """End, after all masks that changed are written."""
        with self._awake:
            self._ended = True
            self._awake.notify()
        self._thread.join()

    def changed(self, sample: int) -> None:
        """Say that the mask of a sample is another one."""
        with self._awake:
            self._changed[sample] = self._changed.get(sample, 0) + 1
            self._awake.notify()

    def want(self, samples: Sequence[int]) -> None:
        """Say which samples somebody looks at: they are answered first."""
        with self._awake:
            self._wanted = list(samples)
            self._awake.notify()

    def _run(self) -> None:
        try:
            self._offer_drawn()
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
            for n, times in changed.items():
                self._unseen[n] = self._unseen.get(n, 0) + self._earlier.pop(n, 0) + times
            self._unsaved.update(dict.fromkeys(changed))
        candidates = self._candidates
        # What was drawn an earlier time waits until its samples are there again: the folder needs these.
        may_save = all(n < candidates.ready for n in self._unsaved)
        if self._unsaved and may_save and (changed or self._ended or not self._failed):
            self._save_changes()
        if self._ended and may_save:
            return False
        if self._ended:
            self._draw_more()
        elif self._see(self._unseen):
            self._learn_a_little()
        elif self._steps_left:
            self._learn_on()
        elif waiting := self._stale(self._wanted):
            self._answer(waiting[:_SHOWN_AT_ONCE])
        elif self._see(self._earlier):
            pass  # its steps come next
        elif candidates.ready < candidates.count:
            self._draw_more()
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
        self._candidates.draw_more()
        self._offer_drawn()

    def _offer_drawn(self) -> None:
        """Let the ensemble learn from the samples that were drawn since, and tell of them."""
        candidates = self._candidates
        for pack in candidates.packs[self._offered : candidates.ready]:
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
        waiting = self._unseen or self._earlier or (self._unsaved and not self._failed)
        return unfinished or bool(waiting or self._stale(range(candidates.ready)))

    def _stale(self, samples: Sequence[int]) -> list[int]:
        """Those of some samples that are drawn and whose answer is older than what was learned."""
        if self._learner.knows_nothing:
            return []
        ready, made = self._candidates.ready, self.answered
        return [
            n for n in samples if n < ready and (n not in made or made[n].version < self._version)
        ]

    def _see(self, changed: dict[int, int]) -> bool:
        """Take in the first mask that changed, of a sample that is drawn; gives whether there was any."""
        found = next((n for n in changed if n < self._candidates.ready), None)
        if found is None:
            return False
        self._steps_left += STEPS * changed.pop(found)
        self._learner.see(found, self._candidates.packs[found], self._masks(found))
        if self._learner.knows_nothing:  # all was undone
            self._steps_left = 0
        return True

    def _learn_a_little(self) -> None:
        """Learn what was just drawn, and answer at once: somebody waits."""
        begun = time.perf_counter()
        if self._learner.knows_nothing:
            self.answered.clear()
            self._tell({"event": "answer", "samples": [], "version": self._version, "seconds": 0.0})
            return
        steps = min(STEPS, self._steps_left)
        self._learner.learn(steps)
        self._steps_left -= steps
        self._version += 1
        self._answer(self._stale(self._wanted[:1]), begun)

    def _learn_on(self) -> None:
        """Some more steps; after the last ones, all answers are to be made anew."""
        steps = min(_AT_ONCE, self._steps_left)
        self._learner.learn(steps)
        self._steps_left -= steps
        self._version += not self._steps_left

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
