"""The command where there is neither PyTorch nor any package that needs it."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from datasets.faces import render_faces
from tests.conftest import ROOT

# Runs the command in a process where the first argument's packages cannot be imported.
WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refuse())
from student.predict.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def draw(folder: Path) -> list[str]:
    """Two faces, and a file that is no image."""
    images, _ = render_faces(4, torch.arange(2), 40)
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("no image")
    return [str(folder / name) for name in ("0.png", "1.png", "broken.png")]


def check(made: subprocess.CompletedProcess[str], masks: Path) -> None:
    """That of these three files two have masks, and one is named."""
    assert made.returncode == 1, made.stderr  # one file was skipped
    assert "broken.png" in made.stderr
    with Image.open(masks / "1.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (40, 40)
    with Image.open(masks / "1_overlay.png") as overlay:
        assert overlay.mode == "RGB"


def test_predict_needs_neither_torch_nor_timm(exported: Path, tmp_path: Path) -> None:
    missing = "torch,timm,accelerate,datasets,albumentations,safetensors,jsonargparse"
    made = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *draw(tmp_path), "--overlay",
         "--model", exported / "student.onnx", "--out", tmp_path / "masks"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    check(made, tmp_path / "masks")


def test_predict_runs_beside_another_package_named_datasets(exported: Path, tmp_path: Path) -> None:
    """As where Hugging Face's is installed and found before ours."""
    other = tmp_path / "site/datasets"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('this is the other one')")
    made = subprocess.run(
        [sys.executable, "-m", "student.predict", *draw(tmp_path), "--overlay",
         "--model", exported, "--out", tmp_path / "masks"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{other.parent}{os.pathsep}{ROOT}"},
        capture_output=True, text=True,
    )  # fmt: skip
    check(made, tmp_path / "masks")


def test_predict_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "student.predict", "x.png", "--model", str(tmp_path / "no.onnx"),
         "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 2
    assert "run the stage export" in made.stderr
    assert "Traceback" not in made.stderr
