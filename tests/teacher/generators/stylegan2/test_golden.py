"""Files that other systems' own code wrote: the images and feature maps that it draws from them.

A few lie in `tests/data/golden`. All of them are tried where the folder `../shared/golden` is there.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import UserError
from teacher.generators.stylegan2.files import load
from teacher.generators.stylegan2.network import Generator
from tests.conftest import ROOT

FEW, ALL = ROOT / "tests/data/golden", ROOT.parent / "shared/golden"
FOLDERS = [folder for folder in (FEW, ALL) if folder.is_dir()]
FILES = [p for folder in FOLDERS for p in sorted(folder.iterdir()) if p.suffix in (".pkl", ".pt")]
REFUSED = {
    "ada_py37_resnet": "resnet",
    "ada_py37_orig": "orig",
    "tf_resnet": "resnet",
    "ada_py37_rgba": "4 channels",
    "sg3_py311_stylegan3t": "StyleGAN3-T",
}
WITHOUT_MEAN = ("ada_py37_no_w_avg",)
TOLERANCE = 1e-4  # of the range


def name_of(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.name}"


def far(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the range."""
    return float((found - wanted).abs().max() / (wanted.max() - wanted.min()))


def draw(
    generator: Generator, truth: dict[str, Tensor], count: int, psi: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """w, image and feature maps of the first z."""
    inputs = generator.inputs_of_z(truth["z"])
    if "class" in truth:
        inputs["class"] = truth["class"]
    latents = generator.latents({name: t[:count] for name, t in inputs.items()}, psi)
    return latents["w"][:, 0], *generator.synthesise(latents)


@pytest.mark.skipif(not ALL.is_dir(), reason="no ../shared/golden: the few in tests/data are tried")
def test_all_files_are_there() -> None:
    assert len(list(ALL.glob("*.npz"))) >= 41


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_image_is_that_of_its_own_code(path: Path) -> None:
    if path.stem in REFUSED:
        with pytest.raises(UserError, match=REFUSED[path.stem]) as refused:
            load(path, torch.device("cpu"))
        assert str(path) in str(refused.value)
        return
    with np.load(path.with_suffix(".npz")) as arrays:
        truth = {name: torch.from_numpy(array) for name, array in arrays.items()}
    generator = load(path, torch.device("cpu"))
    w, image, maps = draw(generator, truth, len(truth["z"]), 1.0)
    assert far(image, truth["image_psi1.0"]) < TOLERANCE
    if "w_psi1.0" in truth:
        assert far(w, truth["w_psi1.0"]) < TOLERANCE
    for i, found in enumerate(maps):
        if f"map{i:02d}" in truth:
            assert far(found[:1], truth[f"map{i:02d}"]) < TOLERANCE
    if path.stem in WITHOUT_MEAN:
        with pytest.raises(UserError, match="no mean of w"):
            draw(generator, truth, 1, 0.5)
    if "image_psi0.5" in truth:
        w, image, _ = draw(generator, truth, 1, 0.5)
        assert far(image, truth["image_psi0.5"]) < TOLERANCE
        if "w_psi0.5" in truth:
            assert far(w, truth["w_psi0.5"][:1]) < TOLERANCE
