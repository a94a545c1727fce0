"""Shared pieces: a tiny but real chain at 16 px, and the command line as people call it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from common.files import read_json
from datasets.annotations import INDEX
from datasets.faces import render_faces
from datasets.labels import LabelSet, write_mask

ROOT = Path(__file__).resolve().parent.parent
LABELS = ROOT / "configs/labels/face8.yaml"
SIZE = 16


def environment() -> dict[str, str]:
    return os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONUNBUFFERED": "1"}


def run_cli(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`python train.py ...` in a process of its own."""
    command = [*(launcher or (sys.executable,)), str(ROOT / "train.py"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )


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


@dataclass(frozen=True)
class Chain:
    """A generator trained for a moment, its annotated samples, and a config that uses them."""

    folder: Path
    config: Path

    @property
    def generator(self) -> Path:
        return self.folder / "source/generator"


@pytest.fixture(scope="session")
def labels() -> LabelSet:
    return LabelSet.load(LABELS)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, labels: LabelSet) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    stage = {
        "network": {"channels": [8, 8, 8], "latent_size": 8, "mapping_layers": 2},
        "images": 256, "batch_size": 8, "precision": "no", "log_every": 64, "save_every": 64, "workers": 0,
    }  # fmt: skip
    config = folder / "config.yaml"
    values = {
        "sources": {
            "labels": str(LABELS),
            "generator": str(folder / "source/generator"),
            "annotations": str(folder / "train"),
            "test_annotations": str(folder / "test"),
        },
        "generator": stage,
        "teacher": {
            "epochs": 6, "val_every": 2, "network": {"widths": [16, 8, 8, 8]},
            "fresh_noise": True, "dice_weight": 1.0, "flip": 0.5, "standardise": True,
        },
        "label": {"count": 40, "shard_size": 8, "batch_size": 4},
        "student": {
            "network": {"encoder": "resnet10t", "levels": 2, "decoder_width": 8, "detail_channels": 4},
            "steps": 12, "batch_size": 8, "val_images": 8, "val_every": 3, "workers": 0,
            "resolution": SIZE, "precision": "bf16", "lovasz_weight": 0.5,
        },
        "compare": {
            "held_out_images": 20, "timed_images": 3, "shown_images": 2, "inversion_images": 3,
            "inversion": {"steps": 6, "random_starts": 4},
        },
    }  # fmt: skip
    config.write_text(yaml.safe_dump(values))
    made = run_cli("generator", "--config", config, "--run.dir", folder / "source")
    assert made.returncode == 0, made.stderr
    for name, seed, count in (("train", 0, 3), ("test", 1, 5)):
        drawn = run_cli(
            "sample", "--config", config, "--count", count, "--seed", seed,
            "--out", folder / name,
        )  # fmt: skip
        assert drawn.returncode == 0, drawn.stderr
        draw_masks(folder / name, labels)
    return Chain(folder, config)


@pytest.fixture(scope="session")
def finished(chain: Chain) -> Path:
    """A run of the whole chain."""
    run = chain.folder / "run"
    made = run_cli("distill", "--config", chain.config, "--run.dir", run)
    assert made.returncode == 0, made.stderr
    return run


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished student on rendered faces, trained for a moment."""
    folder = tmp_path_factory.mktemp("student")
    options = {
        "network.encoder": "resnet10t", "network.levels": 2, "network.decoder_width": 8,
        "network.detail_channels": 4, "source": "faces", "faces": 40, "resolution": SIZE, "steps": 4,
        "batch_size": 8, "val_images": 8, "val_every": 2, "workers": 0,
    }  # fmt: skip
    arguments = [x for k, v in options.items() for x in (f"--student.{k}", v)]
    made = run_cli("student", "--run.dir", folder, *arguments)
    assert made.returncode == 0, made.stderr
    return folder / "student"
