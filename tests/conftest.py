"""Shared pieces: a tiny but real chain at 16 px, and the command line as people call it."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from common.files import read_json
from datasets.annotations import INDEX
from datasets.faces import render_faces
from datasets.labels import LabelSet, write_mask
from train import main

ROOT = Path(__file__).resolve().parent.parent
LABELS = ROOT / "configs/labels/face8.yaml"
SIZE = 16

os.environ["ACCELERATE_USE_CPU"] = "true"

# The student learns from its moving average as well, also on images without masks.
OWN_ANSWER = tuple(
    f"--student.own_answer.{option}"
    for option in (
        "teacher_weight=0.3", "after=4", "unlabelled=rendered", "unlabelled_batch=4",
        "unlabelled_faces=20",
    )
)  # fmt: skip

Completed = subprocess.CompletedProcess[str]


# Files that take minutes. They come first, so that no test process is left with one at the end; the second
# needs nothing that the first makes.
LONGEST = (
    "test_resume",
    "test_toy_family",
    "test_rounds",
    "test_processes",
    "test_own_data",
    "test_label",
    "test_study",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def environment() -> dict[str, str]:
    """Of a process that a test starts; this one's has ACCELERATE_USE_CPU already."""
    return os.environ | {"PYTHONUNBUFFERED": "1"}


def command_line(*arguments: object) -> list[str]:
    """`python train.py ...`, to be started as a process."""
    return [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]


def run_cli(*arguments: object, launcher: tuple[str, ...] = ()) -> Completed:
    """`train.py ...`: in this process, which saves a start, or in those of a launcher."""
    if launcher:
        command = [*launcher, *command_line(*arguments)[1:]]
        return run_process(command)
    AcceleratorState._reset_state()  # else the first run of the process decides on the precision of all
    out, errors = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = main([*map(str, arguments)])
    return Completed(["train.py", *map(str, arguments)], code, out.getvalue(), errors.getvalue())


def run_process(command: list[str]) -> Completed:
    """A process in the project's folder, from its start to its end."""
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )


def wait_for(pattern: str, run: Path, process: subprocess.Popen[str]) -> None:
    """Until a file of that name is there."""
    end = time.monotonic() + 240
    while not list(run.glob(pattern)):
        assert process.poll() is None, f"ended before {pattern} appeared"
        assert time.monotonic() < end, f"{pattern} never appeared"
        time.sleep(0.01)


def killed_at(pattern: str, run: Path, command: list[str]) -> None:
    """Start a command, and kill it as soon as a file of that name is there."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(pattern, run, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ranks(count: int) -> tuple[str, ...]:
    """A launcher of several processes on this machine."""
    return (
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
        "--num_processes", str(count), "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no",
    )  # fmt: skip


def draw_masks(folder: Path, labels: LabelSet, size: int = SIZE) -> None:
    """Masks for drawn samples. Their content is a rendered face's: enough to train on."""
    count = read_json(folder / INDEX)["count"]
    _, masks = render_faces(3, torch.arange(count), size)
    for i, mask in enumerate(masks):
        write_mask(folder / "masks" / f"{i:04d}.png", mask.numpy(), labels)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first test process to need it makes; all use it, and none may change it.

    Args:
        make: fills the folder, which is there and empty.
    """
    common = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each process has a folder of its own in it
        common = common.parent
    folder, done = common / name, common / f"{name}.done"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what was cut off
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@dataclass(frozen=True)
class Chain:
    """A generator trained for a moment, its annotated samples, and a config that uses them."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def generator(self) -> Path:
        return self.folder / "source/generator"


def chain_config(folder: Path) -> dict[str, Any]:
    """A config of small stages, with what lies in the chain's folder as sources."""
    return {
        "sources": {
            "labels": str(LABELS),
            "generator": str(folder / "source/generator"),
            "annotations": str(folder / "train"),
            "test_annotations": str(folder / "test"),
        },
        "generator": {
            "network": {"channels": [8, 8, 8], "latent_size": 8, "mapping_layers": 2},
            "images": 256, "batch_size": 8, "precision": "no", "log_every": 64, "save_every": 64,
            "workers": 0,
        },
        "teacher": {
            "epochs": 6, "val_every": 2, "network": {"widths": [16, 8, 8, 8]},
            "fresh_noise": True, "dice_weight": 1.0, "flip": 0.5, "standardise": True,
        },
        "label": {"count": 40, "shard_size": 8, "batch_size": 4},
        "student": {
            "network": {"encoder": "resnet10t", "levels": 2, "decoder_width": 8, "detail_channels": 4},
            "steps": 12, "batch_size": 8, "val_images": 8, "val_every": 3, "workers": 0,
            "half_size_share": 0.25, "resolution": SIZE, "precision": "bf16", "lovasz_weight": 0.5,
        },
        "compare": {
            "held_out_images": 20, "timed_images": 3, "shown_images": 2, "inversion_images": 3,
            "inversion": {"steps": 6, "random_starts": 4},
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def labels() -> LabelSet:
    return LabelSet.load(LABELS)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, labels: LabelSet) -> Chain:
    def make(folder: Path) -> None:
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(chain_config(folder)))
        made = run_cli("generator", "--config", config, "--run.dir", folder / "source")
        assert made.returncode == 0, made.stderr
        for name, seed, count in (("train", 0, 3), ("test", 1, 5)):
            drawn = run_cli(
                "sample", "--config", config, "--count", count, "--seed", seed,
                "--out", folder / name,
            )  # fmt: skip
            assert drawn.returncode == 0, drawn.stderr
            draw_masks(folder / name, labels)

    return Chain(made_once(tmp_path_factory, "chain", make))


@pytest.fixture(scope="session")
def finished(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole chain."""

    def make(run: Path) -> None:
        made = run_cli("distill", "--config", chain.config, "--run.dir", run)
        assert made.returncode == 0, made.stderr

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished student on rendered faces, trained for a moment."""

    def make(run: Path) -> None:
        options = {
            "network.encoder": "resnet10t", "network.levels": 2, "network.decoder_width": 8,
            "network.detail_channels": 4, "source": "faces", "faces": 40, "resolution": SIZE,
            "steps": 4, "batch_size": 8, "val_images": 8, "val_every": 2, "workers": 0,
        }  # fmt: skip
        arguments = [x for k, v in options.items() for x in (f"--student.{k}", v)]
        made = run_cli("student", "--run.dir", run, *arguments)
        assert made.returncode == 0, made.stderr

    return made_once(tmp_path_factory, "student_of_faces", make) / "student"
