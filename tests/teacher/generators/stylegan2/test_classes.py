"""Conditional generators: a class for every sample, chosen, drawn or in turns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import read_json
from common.stage_folder import artifact_hash
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed, latents_of_z
from tests.conftest import Completed, run_cli
from tests.teacher.generators.stylegan2.test_golden import FEW

FILE = FEW / "ada_py37_class10.pkl"


def sample(out: Path, *options: object, generator: Path = FILE) -> Completed:
    return run_cli("sample", "--generator", generator, *options, "--out", out)


def test_the_class_changes_what_is_drawn() -> None:
    generator = load_generator(FILE)
    z = torch.randn(1, generator.z_size)
    images = [
        draw(generator, latents_of_z(generator, z, 1.0, number), [0]).images for number in range(10)
    ]
    assert all(not torch.equal(images[0], other) for other in images[1:])


def test_classes_are_drawn_from_the_seed_or_take_turns() -> None:
    generator = load_generator(FILE)
    together = generator.random_inputs(5, list(range(200)))["class"]
    alone = generator.random_inputs(5, [117])["class"]
    assert together[117] == alone[0] and set(together.tolist()) == set(range(10))
    assert generator.inputs_of_z(torch.randn(12, 16))["class"].tolist() == [*range(10), 0, 1]
    latents = latents_of_seed(generator, 5, 1.0, 3)([0, 1])
    assert "class" not in latents  # w says it all


def test_sample_draws_the_class_that_is_asked_for(tmp_path: Path) -> None:
    for name, chosen in (("a", 3), ("b", 3), ("c", 4)):
        made = sample(tmp_path / name, "--seeds", "0-1", "--class", chosen)
        assert made.returncode == 0, made.stderr
    a, b, c = ((tmp_path / n / "images/0000.png").read_bytes() for n in "abc")
    assert a == b and a != c
    assert read_json(tmp_path / "a/samples.json")["origin"]["class"] == 3
    made = sample(tmp_path / "all", "--count", 3, "--class", "all")
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--count", 2], "--class is missing: this generator draws 10 classes"),
        (["--seeds", "0", "--class", 10], "--class 10: this generator draws classes 0 to 9"),
        (["--seeds", "0", "--class", -1], "--class -1: this generator draws classes 0 to 9"),
    ],
)
def test_a_class_that_is_missing_or_out_of_range(
    options: list[object], said: str, tmp_path: Path
) -> None:
    made = sample(tmp_path / "out", *options)
    assert made.returncode == 2 and said in made.stderr and made.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_generator_without_classes(tmp_path: Path) -> None:
    made = sample(tmp_path / "o", "--count", 2, "--class", 0, generator=FEW / "ros_blur121.pt")
    assert made.returncode == 2 and "no classes" in made.stderr


def test_a_folder_of_one_class(tmp_path: Path) -> None:
    """`convert --class` makes a generator that all stages take as one without classes."""
    made = run_cli("convert", "--checkpoint", FILE, "--class", 7, "--out", tmp_path / "g")
    assert made.returncode == 0, made.stderr
    one, whole = load_generator(tmp_path / "g"), load_generator(FILE)
    z = torch.randn(2, 16)
    found = draw(one, latents_of_z(one, z, 0.7), [0, 1]).images
    assert torch.equal(found, draw(whole, latents_of_z(whole, z, 0.7, 7), [0, 1]).images)
    assert artifact_hash(tmp_path / "g") != artifact_hash(FILE)
    assert sample(tmp_path / "s", "--count", 2, generator=tmp_path / "g").returncode == 0
    made = run_cli("convert", "--checkpoint", FILE, "--class", 70, "--out", tmp_path / "h")
    assert made.returncode == 2 and "classes 0 to 9" in made.stderr
    assert not (tmp_path / "h").exists()


def test_a_folder_of_all_classes_draws_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.RandomState(0).randn(2, 16).astype(np.float32))
    assert run_cli("convert", "--checkpoint", FILE, "--out", tmp_path / "g").returncode == 0
    for name, source in (("a", FILE), ("b", tmp_path / "g")):
        options = ["--latents", tmp_path / "z.npy", "--class", 2]
        made = sample(tmp_path / name, *options, generator=source)
        assert made.returncode == 0, made.stderr
    a, b = ((tmp_path / n / "images/0001.png").read_bytes() for n in "ab")
    assert a == b


def test_a_class_that_no_one_names_is_asked_for() -> None:
    generator = load_generator(FILE)
    inputs = generator.inputs_of_z(torch.randn(1, 16))
    with pytest.raises(UserError, match="draws 10 classes"):
        generator.latents({name: t for name, t in inputs.items() if name != "class"}, 1.0)
    with pytest.raises(UserError, match="classes 0 to 9"):
        generator.latents(inputs | {"class": torch.tensor([10])}, 1.0)
