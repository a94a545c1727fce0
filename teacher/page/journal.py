"""All strokes of a person, on disk before the next one begins.

`strokes.jsonl` has a head that names generator and classes, and a line for every stroke, undo and redo.
It only grows. What the masks are follows from it.
"""

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from common.errors import UserError
from datasets.labels import Mask
from teacher.page.strokes import NOTHING, Stroke, read_stroke

FILE = "strokes.jsonl"


class NotSaved(UserError):
    """The disk does not take a stroke."""


@dataclass
class Drawing:
    """What a person did to the mask of one sample.

    Attributes:
        done: strokes that count, in order.
        undone: strokes that can be done again, the next one last.
    """

    done: list[Stroke] = field(default_factory=list)
    undone: list[Stroke] = field(default_factory=list)

    def mask(self, side: int) -> Mask:
        """The mask [side, side], with `NOTHING` where nobody has drawn."""
        mask = np.full((side, side), NOTHING, np.uint8)
        for stroke in self.done:
            stroke.put_on(mask)
        return mask

    def follow(self, stroke: Stroke | str) -> bool:
        """Take a stroke, or the words `undo` and `redo`; gives whether there was something to do."""
        if isinstance(stroke, str):
            source, target = self.done, self.undone
            if stroke == "redo":
                source, target = target, source
            if source:
                target.append(source.pop())
                return True
            return False
        self.done.append(stroke)
        self.undone.clear()
        return True


class Journal:
    """The file of strokes, open for this process alone.

    Attributes:
        drawings: by the sample's number, what was done to it, in the order in which they were begun.
        count: how much was done so far: strokes, undo and redo.
    """

    def __init__(
        self, folder: Path, head: Mapping[str, Any], samples: int, side: int, classes: int
    ) -> None:
        """Open or begin the file.

        Args:
            head: what samples and classes the strokes are of.
            samples: number of samples.
            side: R, side of the images.
            classes: number of classes.

        Raises:
            UserError: another process has it open, it was begun for other samples or classes, or it is
                damaged.
        """
        self._path, self._samples = folder / FILE, samples
        self._side, self._classes = side, classes
        self.drawings: dict[int, Drawing] = defaultdict(Drawing)
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock()
            self._open(dict(head))
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def add(self, sample: int, stroke: Stroke | str) -> bool:
        """Write a stroke, or `undo` or `redo`, and follow it once the disk has it.

        Returns:
            Whether there was something to do; nothing is written else.

        Raises:
            NotSaved: the disk does not take it; then nothing has changed.
        """
        drawing = self.drawings.get(sample, Drawing())
        if isinstance(stroke, str) and not (drawing.undone if stroke == "redo" else drawing.done):
            return False
        told = {"do": stroke} if isinstance(stroke, str) else stroke.as_json()
        self._append({"sample": sample, **told})
        self.count += 1
        return self.drawings[sample].follow(stroke)

    def _append(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            written = os.write(self._file, line)
            if written < len(line):
                written += os.write(self._file, line[written:])  # says why the rest was not taken
            if written < len(line):
                raise OSError(0, "only a part was taken")
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, end)
            raise NotSaved(
                f"{self._path} does not take the stroke ({error.strerror}); make room on the disk. "
                "All strokes before are safe."
            ) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{self._path.parent} is open in another process of `draw`; use its page, or stop it."
            ) from error

    def _open(self, head: dict[str, Any]) -> None:
        """Read what is there, without a line that a killed process began; or write the head."""
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file, len(whole))
        lines = whole.splitlines()
        if not lines:
            self._append(head)
            return
        found = self._parse(lines[0], 1)
        for name, value in head.items():
            if (before := found.get(name)) != value:
                raise UserError(
                    f"{self._path} was begun with the {name} {before}, and now it is {value}; choose "
                    "another --out, or go on as before."
                )
        for number, line in enumerate(lines[1:], 2):
            values = self._parse(line, number)
            try:
                sample, told = self._read(values)
            except UserError as error:
                raise self._damaged(number, str(error)) from error
            self.drawings[sample].follow(told)
            self.count += 1

    def _read(self, values: dict[str, Any]) -> tuple[int, Stroke | str]:
        sample, told = values.get("sample"), values.get("do")
        if type(sample) is not int or not 0 <= sample < self._samples:
            raise UserError("it names no sample.")
        if told in ("undo", "redo"):
            return sample, told
        return sample, read_stroke(values, self._side, self._classes)

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged(number, "it is no JSON.") from error
        if not isinstance(values, dict):
            raise self._damaged(number, "it is no mapping.")
        return values

    def _damaged(self, number: int, reason: str) -> UserError:
        return UserError(
            f"{self._path} is damaged in line {number} ({reason.rstrip('.')}); take the line out, or "
            "choose another --out."
        )
