"""A generator from photographs, through the command line."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from common.files import read_json
from datasets.faces import render_faces
from datasets.photographs import Photographs
from teacher.generators.stylegan2.record import Warnings
from tests.conftest import run_cli
from train import main

OPTIONS = [
    "--generator.network.channels", "[8,8,8]", "--generator.network.latent_size", "8",
    "--generator.batch_size", "8", "--generator.images", "96", "--generator.log_every", "16",
    "--generator.save_every", "32", "--generator.workers", "0", "--generator.ada", "true",
    "--generator.ada_images", "100", "--generator.style_mixing", "0.9",
    "--generator.path_length_weight", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, face in enumerate(render_faces(1, torch.arange(20), 24)[0]):
        image = Image.fromarray(face.permute(1, 2, 0).numpy())
        image.resize((30 + i, 24)).save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing more")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_photographs_train_a_generator_with_augmentation(photos: Path, tmp_path: Path) -> None:
    made = run_cli("generator", "--sources.photographs", photos, "--run.dir", tmp_path, *OPTIONS)
    assert made.returncode == 0, made.stderr
    assert "20 photographs" in made.stdout and "1 left out" in made.stdout
    assert "generator: 8 images to go, less than a minute on this machine" in made.stdout
    assert re.search(r"left out: 1 of \.png \(.*\): \S*broken\.png", made.stdout)
    logged = rows(tmp_path / "generator")
    assert logged[-1]["step"] == 96
    strengths = [row["augment/p"] for row in logged]
    assert max(strengths) > 0 and len(set(strengths)) > 1
    lengths = [row["path/length"] for row in logged if "loss/path" in row]
    assert lengths and lengths[-1] > lengths[0] > 0
    assert (tmp_path / "generator/generator.safetensors").exists()
    assert not (tmp_path / "generator/checkpoints").exists()


def test_a_killed_run_goes_on_the_same(photos: Path, tmp_path: Path) -> None:
    """Stopped half-way by a shorter budget's checkpoint: augmentation and order are taken up."""
    for name in ("whole", "parts"):
        arguments = ["--sources.photographs", str(photos), "--run.dir", str(tmp_path / name)]
        if name == "parts":
            stop_half_way([*arguments, *OPTIONS])
            assert (tmp_path / "parts/generator/checkpoints/photographs.bytes").exists()
        assert main(["generator", *arguments, *OPTIONS]) == 0
    whole, parts = ((tmp_path / n / "generator/generator.safetensors") for n in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


class _Stopped(Exception):
    pass


def _stop(*_: object, **__: object) -> None:
    raise _Stopped


def stop_half_way(arguments: list[str]) -> None:
    """Run the stage until its first checkpoint is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teacher.generators.stylegan2.record.Record.draw_samples", _stop)
        with pytest.raises(_Stopped):
            main(["generator", *arguments])


def test_zip_files_and_too_few_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(photos / "0.png", "0.png")
        archive.write(photos / "1.jpg", "1.jpg")
    images = Photographs(tmp_path / "photos.zip", 16, tmp_path / "packed.bytes")
    assert len(images) == 2 and images[0, 1].shape == (3, 16, 16)
    (tmp_path / "one").mkdir()
    (photos / "0.png").rename(tmp_path / "one/0.png")
    try:
        options = ["--sources.photographs", str(tmp_path / "one"), "--run.dir", str(tmp_path / "r")]
        assert main(["generator", *options, *OPTIONS]) == 2
        assert "1 readable images" in capsys.readouterr().err
    finally:
        (tmp_path / "one/0.png").rename(photos / "0.png")


def test_frechet_distance_in_the_features_of_a_student(
    photos: Path, tmp_path: Path, student_folder: Path
) -> None:
    arguments = ["--generator.frechet_network", str(student_folder)]
    arguments += ["--generator.frechet_every", "32", "--generator.frechet_images", "20"]
    arguments += ["--sources.photographs", str(photos), "--run.dir", str(tmp_path)]
    assert main(["generator", *arguments, *OPTIONS]) == 0
    measured = [row["frechet"] for row in rows(tmp_path / "generator") if "frechet" in row]
    assert len(measured) == 3 and min(measured) > 0
    folder = tmp_path / "generator"
    figures = read_json(folder / "manifest.json")["figures"]
    assert figures["frechet"] == min(measured)
    assert figures["frechet_images"] == 32 * (1 + measured.index(min(measured)))
    best, last = (load_file(folder / f"{n}.safetensors") for n in ("generator", "last"))
    differ = any(not torch.equal(best[n], t) for n, t in last.items() if n != "w_mean")
    assert differ is (measured[-1] > min(measured))
    with Image.open(folder / "growth.png") as growth, Image.open(folder / "samples.png") as sheet:
        assert growth.width == sheet.width and growth.height == 3 * sheet.height / 8


def test_a_killed_run_keeps_the_best(photos: Path, tmp_path: Path, student_folder: Path) -> None:
    options = ["--generator.frechet_network", str(student_folder), *OPTIONS]
    options += ["--generator.frechet_every", "16", "--generator.frechet_images", "20"]
    for name in ("whole", "parts"):
        arguments = ["--sources.photographs", str(photos), "--run.dir", str(tmp_path / name)]
        if name == "parts":
            stop_half_way([*arguments, *options])
        assert main(["generator", *arguments, *options]) == 0
    for file in ("generator.safetensors", "last.safetensors", "discriminator.safetensors"):
        whole, parts = (
            (tmp_path / n / "generator" / file).read_bytes() for n in ("whole", "parts")
        )
        assert whole == parts, file


def test_a_discriminator_that_teaches_nothing_is_named() -> None:
    flat = {"score/real": 0.02, "score/fake": 0.01, "score/sign": 0.1}
    sure = {"score/real": 3.0, "score/fake": -3.0, "score/sign": 0.95}
    warnings = Warnings(ada=False, few=True)
    told = [[*warnings.take_in(i, flat)] for i in range(8)]
    assert [len(lines) for lines in told] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert "image 4" in told[4][0] and "alike" in told[4][0]
    told = [[*warnings.take_in(i, sure)] for i in range(5)]
    assert "by heart; set generator.ada to true" in told[4][0]
    # Chances are not named: it begins anew with every line that is as it should be.
    fine = {"score/real": 1.0, "score/fake": -1.0, "score/sign": 0.5}
    assert not [w for i in range(20) for w in warnings.take_in(i, flat if i % 5 else fine)]
    assert not [w for i in range(9) for w in Warnings(False, few=False).take_in(i, sure)]
    augmented = Warnings(ada=True, few=True)
    assert "more photographs" in [[*augmented.take_in(i, sure)] for i in range(5)][4][0]
