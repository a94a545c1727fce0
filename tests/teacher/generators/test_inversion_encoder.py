"""The encoder's guess, learned from a tiny generator, and inversions that start from it."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import UserError
from common.files import read_json
from common.stage_folder import StageFolder, artifact_hash
from datasets.annotations import Samples, read_annotated
from datasets.labels import LabelSet
from datasets.sheets import save_sheet, to_array
from teacher.generators.base import FeatureGenerator
from teacher.generators.inversion import InversionConfig, invert
from teacher.generators.inversion_encoder import load_inversion_encoder
from teacher.generators.inversion_encoder_training import (
    InversionEncoderStage,
    train_inversion_encoder,
)
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed
from tests.conftest import Chain, command_line, draw_masks, killed_at, run_cli
from train import main

OPTIONS = (
    "--inversion_encoder.images", "960", "--inversion_encoder.batch_size", "16",
    "--inversion_encoder.val_every", "20", "--inversion_encoder.warmup_steps", "5",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a finished encoder."""
    folder = tmp_path_factory.mktemp("guessing")
    made = run_cli("inversion_encoder", "--config", chain.config, "--run.dir", folder, *OPTIONS)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def generator(chain: Chain) -> FeatureGenerator:
    return load_generator(chain.generator)


@pytest.fixture(scope="module")
def samples(generator: FeatureGenerator) -> Samples:
    return draw(generator, latents_of_seed(generator, 77, 1.0), list(range(6)))


def test_it_learns_and_shows_how_well(run: Path) -> None:
    manifest = read_json(run / "inversion_encoder/manifest.json")
    assert set(manifest["files"]) == {"encoder.safetensors", "encoder.json", "encoder.png"}
    lines = [
        json.loads(x) for x in (run / "inversion_encoder/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert lines[-1]["validation/distance"] == manifest["figures"]["distance"] < 1
    assert lines[-1]["validation/psnr"] == manifest["figures"]["psnr"]


def test_killed_it_goes_on_to_the_same_weights(chain: Chain, run: Path, tmp_path: Path) -> None:
    command = ("inversion_encoder", "--config", chain.config, "--run.dir", tmp_path, *OPTIONS)
    state = "inversion_encoder/checkpoints/state-20.safetensors"
    killed_at(state, tmp_path, command_line(*command))
    assert not (tmp_path / "inversion_encoder/manifest.json").exists()
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    assert "resumed at step" in made.stdout
    weights = "inversion_encoder/encoder.safetensors"
    mine, theirs = load_file(tmp_path / weights), load_file(run / weights)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_stopped_behind_its_last_step_it_ends_as_it_would_have(
    chain: Chain, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a full disk, say, which its own advice is to run again after."""
    made = read_json(run / "inversion_encoder/config.json")["config"]
    config = InversionEncoderStage(**made)
    folder = StageFolder(tmp_path, "inversion_encoder", config, {"generator": chain.generator})

    def full(*_: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="full"):
        patch.setattr("teacher.generators.inversion_encoder_training.save_weights", full)
        train_inversion_encoder(config, folder)
    result = train_inversion_encoder(config, folder)
    assert result.figures == read_json(run / "inversion_encoder/manifest.json")["figures"]


@pytest.mark.parametrize("space", ["w+", "w"])
def test_few_steps_go_further_from_its_guess(
    chain: Chain,
    run: Path,
    generator: FeatureGenerator,
    samples: Samples,
    space: Literal["w+", "w"],
) -> None:
    guess = load_inversion_encoder(
        run / "inversion_encoder", generator, artifact_hash(chain.generator)
    )
    config = InversionConfig(steps=4, random_starts=0, space=space)
    without = invert(generator, samples.images, config)
    found = invert(generator, samples.images, config, guess=guess)
    assert found.psnr.mean() > without.psnr.mean() + 1
    assert found.samples.latents["w"].shape == samples.latents["w"].shape


def test_a_guess_counts_only_where_it_is_nearer_than_a_random_face(
    generator: FeatureGenerator, samples: Samples
) -> None:
    """The styles that drew the images are the best guess, those of others a bad one."""
    true = samples.latents["w"][:, 0]
    config = InversionConfig(steps=0, random_starts=8)
    without = invert(generator, samples.images, config)
    right = invert(generator, samples.images, config, guess=lambda images: true)
    assert torch.equal(right.samples.latents["w"], samples.latents["w"])
    wrong = invert(generator, samples.images, config, guess=lambda images: 20 * true.flip(0))
    assert torch.equal(wrong.samples.latents["w"], without.samples.latents["w"])


def test_a_run_compares_and_annotates_with_its_encoder(
    chain: Chain, finished: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "run"
    shutil.copytree(finished, mine)
    made = run_cli(
        "distill", "--config", chain.config, "--run.dir", mine, *OPTIONS, "--run.overwrite", "true"
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("done already") == 5  # all but encoder and compare
    inputs = read_json(mine / "compare/manifest.json")["inputs"]
    assert inputs["inversion_encoder"] == artifact_hash(
        run / "inversion_encoder"
    )  # the same command, the same weights
    result = read_json(mine / "compare/comparison.json")["test_sets"]["held_out_inverted"]
    assert "teacher_by_inversion" in result["models"]


def test_labelled_photographs_start_from_its_guess(
    chain: Chain,
    run: Path,
    generator: FeatureGenerator,
    samples: Samples,
    labels: LabelSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i, image in enumerate(samples.images[:2]):
        save_sheet(to_array(image), tmp_path / f"photos/{i:04d}.png")
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/samples.json").write_text('{"count": 2}')
    draw_masks(tmp_path / "drawn", labels)
    command = [
        "annotate", "--generator", str(chain.generator), "--samples", str(tmp_path / "photos"),
        "--masks", str(tmp_path / "drawn/masks"), "--inversion.steps", "0",
        "--inversion.random_starts", "0",  # few images: one of many might be nearer
        "--inversion_encoder_folder", str(run / "inversion_encoder"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    source = artifact_hash(chain.generator)
    found, _ = read_annotated(tmp_path / "out", labels, source)
    guess = load_inversion_encoder(run / "inversion_encoder", generator, source)(samples.images[:2])
    assert torch.allclose(found.latents["w"][:, 0], guess, atol=1e-2)


def test_mistakes_are_named(
    chain: Chain, run: Path, generator: FeatureGenerator, tmp_path: Path
) -> None:
    def train(**options: Any) -> None:
        inputs = {"generator": chain.generator}
        config = InversionEncoderStage(**({"images": 64, "batch_size": 8} | options))
        train_inversion_encoder(config, StageFolder(tmp_path, "inversion_encoder", config, inputs))

    with pytest.raises(UserError, match=r"as in --inversion_encoder\.images"):
        train(images=0)
    with pytest.raises(UserError, match=r"inversion_encoder.backbone 'no_such_net'.*list_models"):
        train(backbone="no_such_net")
    with pytest.raises(UserError, match="batch_size 1 gives batch normalisation a single value"):
        train(batch_size=1)
    with pytest.raises(
        UserError, match=r"loss is nan at step \d+; lower inversion_encoder.learning_rate"
    ):
        train(learning_rate=1e30, warmup_steps=0)
    with pytest.raises(UserError, match="trained on another generator"):
        load_inversion_encoder(run / "inversion_encoder", generator, "another")
    broken = tmp_path / "broken"
    shutil.copytree(run / "inversion_encoder", broken)
    save_file({"x": torch.zeros(1)}, broken / "encoder.safetensors")
    with pytest.raises(UserError, match="run `inversion_encoder` again"):
        load_inversion_encoder(broken, generator, artifact_hash(chain.generator))
