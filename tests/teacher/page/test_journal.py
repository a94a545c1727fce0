"""The file of strokes: nothing is lost, and what is damaged is said."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from teacher.page.journal import FILE, Journal, NotSaved
from teacher.page.strokes import NOTHING, Stroke, read_stroke
from tests.conftest import ROOT

SAMPLES, SIDE, CLASSES = 10, 16, 8
HEAD = {"generator": "abc", "classes": ["a", "b"]}

# A process that draws until somebody ends it, and says each stroke that was taken.
DRAWS_ON = f"""
import sys
from pathlib import Path
from teacher.page.journal import Journal
from teacher.page.strokes import read_stroke
line = {{"kind": "line", "class": 1, "size": 1, "points": [[1, 1], [9, 5]]}}
with Journal(Path(sys.argv[1]), {HEAD}, {SAMPLES}, {SIDE}, {CLASSES}) as journal:
    for number in range(10**9):
        journal.add(number % 3, read_stroke(line, {SIDE}, {CLASSES}))
        print(number, flush=True)
"""


def opened(folder: Path, head: dict[str, Any] = HEAD) -> Journal:
    return Journal(folder, head, SAMPLES, SIDE, CLASSES)


def stroke(row: int, label: int = 1) -> Stroke:
    points = [[1.0, row + 0.5], [9.0, row + 0.5]]
    return read_stroke({"kind": "line", "class": label, "size": 1, "points": points}, SIDE, CLASSES)


def test_strokes_undo_and_redo_are_there_again(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for row in range(5):
            assert journal.add(7, stroke(row))
        assert journal.add(7, "undo") and journal.add(7, "undo") and journal.add(7, "redo")
        assert journal.add(3, stroke(2, label=4))
        assert not journal.add(3, "redo") and not journal.add(9, "undo")
        masks = {n: drawing.mask(SIDE) for n, drawing in journal.drawings.items()}
    assert list(masks) == [7, 3]
    assert (masks[7][:4, 2] == 1).all() and (masks[7][4:] == NOTHING).all()
    with opened(tmp_path) as journal:
        assert {*journal.drawings} == {7, 3} and len(journal.drawings[7].undone) == 1
        for n, mask in masks.items():
            assert (journal.drawings[n].mask(SIDE) == mask).all()
        journal.add(7, stroke(9))
        assert not journal.add(7, "redo")  # a new stroke ends it


def test_a_killed_process_loses_only_the_stroke_that_it_was_writing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRAWS_ON, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(40)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    with opened(tmp_path) as journal:
        kept = sum(len(drawing.done) for drawing in journal.drawings.values())
    assert kept in (len(said), len(said) + 1)  # the last one may be on disk and not yet said


def test_a_torn_last_line_is_left_out_and_further_ones_follow(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add(0, stroke(1))
    whole = (tmp_path / FILE).read_bytes()
    for cut in range(1, 30):
        (tmp_path / FILE).write_bytes(whole + whole.splitlines()[-1][:cut])
        with opened(tmp_path) as journal:
            journal.add(0, stroke(2))
        with opened(tmp_path) as journal:
            assert len(journal.drawings[0].done) == 2


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add(0, stroke(1))
        size = (tmp_path / FILE).stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        try:
            with pytest.raises(NotSaved, match="make room on the disk"):
                journal.add(0, stroke(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert (tmp_path / FILE).stat().st_size == size and len(journal.drawings[0].done) == 1
        journal.add(0, stroke(3))
    with opened(tmp_path) as journal:
        assert (np.nonzero(journal.drawings[0].mask(SIDE) != NOTHING)[0][[0, -1]] == [1, 3]).all()


def test_a_second_process_and_other_classes_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        made = subprocess.run(
            [sys.executable, "-c", DRAWS_ON, tmp_path], cwd=ROOT, capture_output=True, text=True
        )
        assert "open in another process of `draw`" in made.stderr
    with pytest.raises(UserError, match="was begun with the classes"):
        opened(tmp_path, HEAD | {"classes": ["a", "c"]})
    with opened(tmp_path):
        pass


def test_damaged_lines_are_named_or_do_no_harm(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for row in range(6):
            journal.add(row % 2, stroke(row))
    whole = (tmp_path / FILE).read_bytes()
    chance, refused = random.Random(0), list[str]()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / FILE).write_bytes(data)
        try:
            with opened(tmp_path) as journal:
                for drawing in journal.drawings.values():
                    assert drawing.mask(SIDE).max() in {*range(CLASSES), NOTHING}
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(FILE in text and "\n" not in text for text in refused)


def test_each_line_is_plain_json(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add(0, stroke(1))
        journal.add(0, "undo")
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert (
        lines[0] == HEAD and lines[1]["kind"] == "line" and lines[2] == {"sample": 0, "do": "undo"}
    )
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o644
