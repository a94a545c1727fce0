"""The command `draw` in a process of its own."""

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

import pytest
import torch
import yaml

from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import INDEX, read_annotated
from datasets.labels import LabelSet
from teacher.generators.registry import load_generator
from teacher.generators.sampling import to_uint8
from teacher.page.output import FOLDER
from tests.conftest import ROOT, Chain, command_line, environment, run_cli
from tests.teacher.page.serving import line


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
    shutil.copytree(chain.folder / "train", other)
    index = read_json(other / INDEX)
    (other / INDEX).write_text(dumps(index | {"generator": "another"}))
    made = run_cli("draw", "--config", chain.config, "--out", tmp_path / "o", "--samples", other)
    assert made.returncode == 2 and "another generator" in made.stderr
