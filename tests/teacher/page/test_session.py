"""A drawing without a browser: answers, and the folder that comes out."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch

from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import INDEX, read_annotated
from datasets.labels import LabelSet
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from teacher.page.answers import Answers
from teacher.page.candidates import Candidates
from teacher.page.output import FOLDER
from tests.conftest import SIZE, Chain
from tests.teacher.page.serving import COUNT, Served, line, serve, until


@pytest.fixture
def served(chain: Chain, labels: LabelSet, tmp_path: Path) -> Iterator[Served]:
    with serve(chain, labels, tmp_path / "out") as served:
        yield served


def masks_of(folder: Path, labels: LabelSet) -> dict[int, np.ndarray[Any, Any]]:
    """Masks of the annotated folder by the number of the sample."""
    _, masks = read_annotated(folder / FOLDER, labels, "hash")
    indices = read_json(folder / FOLDER / INDEX)["origin"]["indices"]
    return dict(zip(indices, masks.numpy(), strict=True))


def test_every_sample_is_answered_after_a_stroke(served: Served) -> None:
    session = served.session
    assert session.answer(0) is None and session.next(0)["sample"] != 0
    session.add(0, line(0, 2))
    session.add(0, line(1, 12))
    until(lambda: session.is_settled)
    for n in range(COUNT):
        answer = session.answer(n)
        assert answer is not None and len(answer[1]) == 2 * SIZE * SIZE
        classes = np.frombuffer(answer[1], np.uint8)[: SIZE * SIZE].reshape(SIZE, SIZE)
        assert set(np.unique(classes)) <= {0, 1}
        if n == 0:  # it knows what it was told
            assert (classes[2, 3:12] == 0).mean() > 0.9 and (classes[12, 3:12] == 1).mean() > 0.9
    shown = [0]
    for _ in range(6):
        shown.append(session.next(shown[-1])["sample"])
    assert len(set(shown)) == 7 and all(row["doubt"] is not None for row in session.overview())


def test_answers_depend_on_the_strokes_and_not_on_how_long_they_take(
    chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    answers = []
    for pause in (0.0, 0.7):
        with serve(chain, labels, tmp_path / str(pause)) as served:
            for n, label in ((0, 0), (0, 1), (4, 2)):
                served.session.add(n, line(label, 4 * label))
                until(lambda: served.session.is_settled)
                time.sleep(pause)
            answers.append([served.session.answer(n) for n in range(COUNT)])
    assert answers[0] == answers[1]


def test_a_stroke_is_not_settled_while_the_disk_takes_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, begun, fsync = served.session, Event(), os.fsync

    def slow(file: int) -> None:
        begun.set()
        time.sleep(0.3)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    drawing = Thread(target=session.add, args=(0, line(1, 2)))
    drawing.start()
    begun.wait()
    until(lambda: session.is_settled)
    assert session.answer(0) is not None
    drawing.join()


def test_samples_so_few_that_all_are_there_at_once_are_told_and_learned_from(
    chain: Chain,
) -> None:
    generator = load_generator(chain.generator, torch.device("cpu"))
    candidates = Candidates(generator, latents_of_seed(generator, 5, 1.0), 3, None)
    told: list[dict[str, Any]] = []
    nothing = np.full((SIZE, SIZE), 255, np.uint8)
    answers = Answers(candidates, 2, lambda _: nothing, lambda _: None, told.append)
    answers.start()
    until(lambda: answers.is_settled)
    answers.end()
    assert told == [{"event": "ready", "samples": 3, "of": 3}] and answers.error is None


def test_the_folder_follows_the_strokes(served: Served, labels: LabelSet) -> None:
    session, folder = served.session, served.folder
    for n, label in ((7, 0), (3, 1), (5, 2)):
        session.add(n, line(label, n))
    until(lambda: session.is_settled)
    masks = masks_of(folder, labels)
    assert list(masks) == [7, 3, 5] and all((m[n, 3:12] != 255).all() for n, m in masks.items())
    session.add(3, "undo")
    session.add(7, line(4, 1))
    until(lambda: session.is_settled)
    masks = masks_of(folder, labels)
    assert list(masks) == [7, 5] and set(np.unique(masks[7])) == {0, 4, 255}
    assert len(list((folder / FOLDER / "masks").iterdir())) == 2
    for n in (7, 5, 7):
        session.add(n, "undo")
    until(lambda: session.is_settled)
    assert not (folder / FOLDER).exists() and session.answer(0) is None


def test_what_was_drawn_before_is_learned_and_nothing_is_written_again(
    chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serve(chain, labels, out) as served:
        served.session.add(9, line(0, 3))
        served.session.add(2, line(1, 9))
    before = {path: path.stat().st_mtime_ns for path in (out / FOLDER).rglob("*.safetensors")}
    made = artifact_hash(out / FOLDER)
    with serve(chain, labels, out) as served:
        until(lambda: served.session.is_settled)
        assert served.session.answer(5) is not None
        assert served.session.state(9)["strokes"] == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert artifact_hash(out / FOLDER) == made
    # A folder that a killed process left behind the strokes is brought in step.
    (out / FOLDER / INDEX).unlink()
    (out / FOLDER / "masks/0001.png").unlink()
    with serve(chain, labels, out):
        pass
    assert artifact_hash(out / FOLDER) == made
