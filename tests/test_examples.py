"""The scripts of examples/, as people run them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from common.files import read_json
from tests.conftest import ROOT, environment


def test_distill_leaves_the_mask_of_an_image(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.distill", str(tmp_path)]
    made = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stderr
    with Image.open(tmp_path / "mask.png") as image:
        mask = np.asarray(image)
    names = read_json(tmp_path / "export/student/labels.json")["names"]
    shares = [f"{name}: {(mask == i).mean():.1%}" for i, name in enumerate(names)]
    assert made.stdout.splitlines()[-len(names) :] == shares
    assert mask.shape == (64, 64) and len(np.unique(mask)) > 2
