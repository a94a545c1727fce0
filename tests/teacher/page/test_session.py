"""A drawing without a browser: answers, the folder that comes out, and the command."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from common.errors import UserError
from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import INDEX, read_annotated
from datasets.labels import LabelSet
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed, to_uint8
from teacher.page.answers import Answers
from teacher.page.candidates import Candidates
from teacher.page.output import FOLDER
from tests.conftest import ROOT, SIZE, Chain, command_line, environment, run_cli
from tests.teacher.page.serving import COUNT, Served, serve, until


def line(label: int, row: float) -> dict[str, Any]:
    points = [[2, row], [13, row]]
    return {"kind": "line", "class": label, "size": 2, "points": points}


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


@contextmanager
def drawing(config: Path, out: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process, and the address of its page."""
    command = command_line(
        "draw", "--config", config, "--out", out, "--no-open", "--count", 6, *more
    )
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+/", said)):
                read = process.stdout.readline()
                assert read, process.communicate()
                said += read
            yield process, found[0]
        finally:
            process.kill()


def ask(address: str, path: str, body: object = None) -> Any:
    """The JSON of an answer; asked again until the samples are drawn."""
    host, _, token = address.removeprefix("http://").partition("/")
    end = time.monotonic() + 60
    while True:
        connection = HTTPConnection(host, timeout=30)
        method, data = ("GET", None) if body is None else ("POST", dumps(body))
        connection.request(method, f"/{token}{path}", data)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 404:
            assert answer.status == 200, text
            return loads(text)
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_command_goes_on_after_a_kill_and_its_folder_teaches(
    chain: Chain, tmp_path: Path
) -> None:
    out = tmp_path / "strokes"
    with drawing(chain.config, out) as (process, address):
        ask(address, "samples/0/strokes", line(0, 2))
        ask(address, "samples/4/strokes", line(1, 9))
        os.kill(process.pid, signal.SIGKILL)
    with drawing(chain.config, out) as (process, address):
        assert ask(address, "samples/4/state")["strokes"] == 1
        ask(address, "samples/4/strokes", line(2, 12))
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"2 annotated samples in {out / FOLDER}" in said and "Traceback" not in errors
    assert "no mask shows ear" in said and (out / FOLDER / "overlays.png").exists()
    made = run_cli(
        "teacher", "--config", chain.config, "--sources.annotations", out / FOLDER,
        "--teacher.answered_samples", 4, "--run.dir", tmp_path / "run",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_the_config_for_strokes_is_the_demos_but_for_what_helps_where_masks_say_little(
    tmp_path: Path,
) -> None:
    strokes, demo = ROOT / "configs/strokes.yaml", ROOT / "configs/demo.yaml"
    with drawing(strokes, tmp_path / "strokes") as (process, address):
        ask(address, "samples/5/strokes", line(1, 30))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    folder = tmp_path / "strokes" / FOLDER
    made = run_cli(
        "distill", "--config", strokes, "--sources.annotations", folder, "--dry-run",
        "--run.dir", tmp_path / "run",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert str(folder) in made.stdout and "round-2/student" in made.stdout
    mine, theirs = (flat(yaml.safe_load(path.read_text())) for path in (strokes, demo))
    assert {key for key, value in mine.items() if theirs.get(key) != value} == {
        "run.dir", "sources.annotations", "teacher.network.follow_edges", "student.batch_size",
        "student.own_answer.unlabelled", "student.own_answer.unlabelled_batch", "rounds.count",
    }  # fmt: skip
    assert not set(theirs) - set(mine)


def flat(options: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested options by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found


def test_samples_of_a_folder_are_drawn_on(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "strokes"
    with drawing(chain.config, out, "--samples", str(chain.folder / "test")) as (process, address):
        assert ask(address, "setup")["samples"] == 5
        ask(address, "samples/4/strokes", line(0, 2))
        ask(address, "samples/4/strokes", line(1, 9))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    generator = load_generator(chain.generator, torch.device("cpu"))
    samples, _ = read_annotated(
        out / FOLDER, LabelSet.load(ROOT / "configs/labels/face8.yaml"),
        artifact_hash(chain.generator),
    )  # fmt: skip
    drawn = to_uint8(generator.synthesise(samples.latents)[0])
    assert (drawn.int() - samples.images.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--count", "0"), "--count is 0"),
        (("--memory", "-1"), "--memory is -1"),
        (("--port", "70000"), "--port is 70000"),
        (("--class", "1"), "this generator has no classes"),
        (("--samples", "nowhere"), "nowhere"),
    ],
)
def test_bad_options_are_one_sentence(
    chain: Chain, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    made = run_cli(
        "draw", "--config", chain.config, "--out", tmp_path / "out", "--no-open", *options
    )
    assert made.returncode == 2 and told in made.stderr and len(made.stderr.splitlines()) == 1


def test_folders_that_hold_other_things_are_left_alone(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.folder / "train", tmp_path / "out" / FOLDER)
    before = artifact_hash(tmp_path / "out" / FOLDER)
    made = run_cli("draw", "--config", chain.config, "--out", tmp_path / "out", "--no-open")
    assert made.returncode == 2 and "comes from no strokes" in made.stderr
    assert artifact_hash(tmp_path / "out" / FOLDER) == before
    other = tmp_path / "other"
    with pytest.raises(UserError, match="another generator"):
        shutil.copytree(chain.folder / "train", other)
        index = read_json(other / INDEX)
        (other / INDEX).write_text(dumps(index | {"generator": "another"}))
        made = run_cli(
            "draw", "--config", chain.config, "--out", tmp_path / "o", "--samples", other
        )
        raise UserError(made.stderr)
