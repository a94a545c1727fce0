"""A training that begins with an earlier one's networks: ours, NVIDIA's, rosinality's."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.checkpoints import load_state, save_weights
from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import artifact_hash
from teacher.generators.stylegan2.ada import augment
from teacher.generators.stylegan2.discriminator import Discriminator
from teacher.generators.stylegan2.files import DISCRIMINATOR, WEIGHTS
from teacher.generators.stylegan2.network import GeneratorConfig
from teacher.generators.stylegan2.options import GeneratorStage
from teacher.generators.stylegan2.rules import Rates
from teacher.generators.stylegan2.start import read_start
from tests.conftest import run_cli
from tests.teacher.generators.stylegan2.foreign import (
    fake_nvidia,
    low_pass_filter,
    nvidia_modules,
    rosinality_tensors,
    write_nvidia,
)
from tests.teacher.generators.stylegan2.original import make_tensors
from tests.teacher.generators.stylegan2.test_adversarial import stop_half_way
from tests.teacher.generators.stylegan2.test_golden import ALL, FEW

SNAPSHOTS = [p for folder in (FEW, ALL) for p in sorted(folder.glob("*snapshot*.pkl"))]
SNAPSHOT = FEW / "ada_py37_snapshot_protocol4.pkl"
CHANNELS, LATENT = (8, 8, 8), 8
OPTIONS = [
    "--generator.network.channels", "[8,8,8]", "--generator.network.latent_size", "8",
    "--generator.batch_size", "4", "--generator.save_every", "8", "--generator.workers", "0",
    "--generator.precision", "no",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that our own stage trained."""
    run = tmp_path_factory.mktemp("trained")
    made = run_cli("generator", "--run.dir", run, "--generator.images", "16", *OPTIONS)
    assert made.returncode == 0, made.stderr
    return run / "generator"


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_a_snapshots_discriminator_gives_its_own_codes_scores(path: Path) -> None:
    start = read_start(path)
    assert start.discriminator
    discriminator = Discriminator(start.network.channels)
    discriminator.load_state_dict(start.discriminator)
    with np.load(path.with_suffix(".npz")) as truth, torch.no_grad():
        scores = discriminator(torch.from_numpy(truth["d_image"]))
        assert torch.allclose(scores, torch.from_numpy(truth["d_score"]).flatten(), atol=1e-5)


def test_the_generator_in_training_is_not_its_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia(monkeypatch)
    torch.manual_seed(0)
    one, other = (make_tensors((6, 4), 5, 4, 2) for _ in range(2))
    other["synthesis.b4.const"] = other["synthesis.b4.const"] + 1
    content = {"G": nvidia_modules(one), "D": None, "G_ema": nvidia_modules(other)}
    nvidia = write_nvidia(tmp_path / "a.pkl", one, monkeypatch, content)
    rosinality = tmp_path / "b.pt"
    torch.save({"g": rosinality_tensors(one), "g_ema": rosinality_tensors(other)}, rosinality)
    for path in (nvidia, rosinality):
        start = read_start(path)
        assert torch.allclose(start.generator["constant"] + 1, start.average["constant"])
        assert start.discriminator is None


def rosinality_discriminator(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names that its modules have: filters, convolutions and biases are modules of their own."""
    made = {
        "final_linear.0.weight": ours["hidden.weight"],
        "final_linear.0.bias": ours["hidden.bias"],
    }
    made |= {
        "final_linear.1.weight": ours["logit.weight"],
        "final_linear.1.bias": ours["logit.bias"],
    }
    made |= {"final_conv.0.weight": ours["last.weight"], "final_conv.1.bias": ours["last.bias"]}
    made |= {"convs.0.0.weight": ours["from_rgb.weight"], "convs.0.1.bias": ours["from_rgb.bias"]}
    for i in range(len(CHANNELS) - 1):
        block, place = f"blocks.{i}.", f"convs.{i + 1}."
        made |= {
            f"{place}conv1.0.weight": ours[f"{block}first.weight"],
            f"{place}conv1.1.bias": ours[f"{block}first.bias"],
            f"{place}conv2.0.kernel": low_pass_filter(),
            f"{place}conv2.1.weight": ours[f"{block}second.weight"],
            f"{place}conv2.2.bias": ours[f"{block}second.bias"],
            f"{place}skip.0.kernel": low_pass_filter(),
            f"{place}skip.1.weight": ours[f"{block}skip.weight"],
        }
    return made


def test_rosinalitys_discriminator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = Discriminator(CHANNELS).state_dict()
    state = rosinality_tensors(make_tensors(CHANNELS, LATENT, LATENT, 4))
    path = tmp_path / "training.pt"
    theirs = rosinality_discriminator(ours)
    torch.save({"g": state, "g_ema": state, "d": theirs}, path)
    found = read_start(path).discriminator
    assert found and all(torch.equal(found[name], ours[name]) for name in ours)

    del theirs["convs.1.conv2.2.bias"]
    torch.save({"g": state, "g_ema": state, "d": theirs}, path)
    with pytest.raises(UserError, match=r"discriminator's convs\.1\.conv2\.2\.bias is missing"):
        read_start(path)


def test_a_training_goes_on_from_a_folder(trained: Path, tmp_path: Path) -> None:
    start = read_start(trained)
    assert start.discriminator and (trained / DISCRIMINATOR).stat().st_size < 100_000
    options = ["--generator.start", trained, "--generator.images", "4", *OPTIONS]
    still = ["--generator.learning_rate", "0", "--generator.discriminator_learning_rate", "0"]
    made = run_cli("generator", "--run.dir", tmp_path / "still", *options, *still)
    assert made.returncode == 0, made.stderr
    assert "and its discriminator" in made.stdout
    # Nothing was learned: the networks are those that it began with.
    again = read_start(tmp_path / "still/generator")
    for name, tensor in start.generator.items():
        if name != "w_mean":
            assert torch.equal(again.generator[name], tensor), name
    assert again.discriminator
    assert all(torch.equal(again.discriminator[n], t) for n, t in start.discriminator.items())
    manifest = read_json(tmp_path / "still/generator/manifest.json")
    assert manifest["inputs"]["start"] == artifact_hash(trained)
    assert manifest["figures"]["ancestors"] == [artifact_hash(trained)]
    assert again.ancestors == (artifact_hash(tmp_path / "still/generator"), artifact_hash(trained))
    # A copy elsewhere is the same start.
    moved = shutil.copytree(trained, tmp_path / "moved")
    options[1] = moved
    once_more = run_cli("generator", "--run.dir", tmp_path / "still", *options, *still)
    assert "done already" in once_more.stdout


def test_a_snapshot_is_trained_on(tmp_path: Path) -> None:
    options = ["--generator.images", "8", "--generator.batch_size", "4", "--generator.workers", "0"]
    made = run_cli("generator", "--run.dir", tmp_path, "--generator.start", SNAPSHOT, *options)
    assert made.returncode == 0, made.stderr
    assert "32 px, and its discriminator" in made.stdout
    before, after = read_start(SNAPSHOT), read_start(tmp_path / "generator")
    assert after.network.channels == before.network.channels
    assert 0 < float((after.average["constant"] - before.average["constant"]).abs().max()) < 0.1


def test_an_interrupted_training_is_a_start(tmp_path: Path, trained: Path) -> None:
    options = ["--run.dir", str(tmp_path / "a"), "--generator.start", str(trained)]
    stop_half_way([*options, "--generator.images", "16", *OPTIONS])
    (state,) = (tmp_path / "a/generator/checkpoints").glob("state-*.safetensors")
    start, kept = read_start(state), load_state(state)
    assert torch.equal(start.generator["constant"], kept["generator"]["constant"])
    assert torch.equal(start.average["constant"], kept["average"]["constant"])
    assert start.ancestors == (artifact_hash(state), artifact_hash(trained))
    made = run_cli("generator", "--run.dir", tmp_path / "b", "--generator.images", "4",
                   "--generator.start", state, *OPTIONS)  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_what_cannot_be_gone_on_from_is_refused(trained: Path, tmp_path: Path) -> None:
    wider = ["--generator.network.channels", "[16,8,8]", "--generator.start", trained]
    made = run_cli("generator", "--run.dir", tmp_path, *wider)
    assert made.returncode == 2
    assert "channels 16-8-8" in made.stderr and "channels 8-8-8" in made.stderr
    made = run_cli("generator", "--run.dir", tmp_path, "--generator.start", tmp_path / "nowhere")
    assert made.returncode == 2 and "nowhere" in made.stderr
    with pytest.raises(UserError, match="filter"):
        read_start(FEW / "ros_blur121.pt")
    with pytest.raises(UserError, match="classes 10"):
        read_start(FEW / "ada_py37_class10.pkl")
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    weights = read_start(trained).discriminator
    assert weights
    infinite = {**weights, "logit.bias": torch.tensor([float("inf")])}
    save_weights(damaged / DISCRIMINATOR, infinite)
    with pytest.raises(UserError, match=re.escape(str(damaged / DISCRIMINATOR))):
        read_start(damaged)
    assert (trained / WEIGHTS).exists()


def test_r1_takes_the_slope_by_images_before_they_are_augmented() -> None:
    """The slope of a sum is one at every pixel that is seen: by the chain rule, and by differences."""
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    seen = torch.randn(4, 3, 8, 8)

    def score(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return (augment(x, 0.9) * seen).square().sum()

    (slope,) = torch.autograd.grad(score(images), images, create_graph=True)
    step = torch.zeros(4, 3, 8, 8)
    step[2, 1, 4, 5] = 1e-2
    with torch.no_grad():
        difference = (score(images + step) - score(images - step)) / 2e-2
    assert slope[2, 1, 4, 5].item() == pytest.approx(difference.item(), rel=1e-2)
    (curve,) = torch.autograd.grad(slope.square().sum(), images)
    assert curve.abs().sum() > 0


def test_auto_follows_from_other_options(tmp_path: Path) -> None:
    """The numbers of stylegan2-ada's automatic configuration, for 256 px in batches of 16."""
    network = GeneratorConfig(channels=(8,) * 7)
    config = GeneratorStage(network=network, batch_size=16, images=5_000_000)
    assert Rates.of(config, started=False) == Rates(0, 0.0025, 0.0025, 0.8192, 5_000, 500_000)
    asked = replace(config, r1_gamma=1.0, images=100_000, ema_images=10.0)
    assert Rates.of(asked, started=True) == Rates(0, 0.002, 0.004, 1.0, 10.0, 100_000)
    alone = Rates.of(asked, started=True, alone=True)
    assert alone == Rates(48_000, 0.002, 0.004, 1.0, 10.0, 100_000)
    assert Rates.of(replace(asked, wait_images=7), started=True, alone=True).wait_images == 7

    options = ["--generator.images", "4", "--generator.r1_gamma", "3", *OPTIONS]
    made = run_cli("generator", "--run.dir", tmp_path, *options)
    assert made.returncode == 0, made.stderr
    told = "discriminator_learning_rate 0.008, ema_images 1250, ada_images 500000, by rule"
    assert told in made.stdout
    figures = read_json(tmp_path / "generator/manifest.json")["figures"]
    assert figures["rates"]["r1_gamma"] == 3 and figures["rates"]["ema_images"] == 1250
    refused = run_cli("generator", "--run.dir", tmp_path, "--generator.r1_gamma", "some")
    assert refused.returncode == 2 and "r1_gamma" in refused.stderr


def test_a_generator_waits_while_a_new_discriminator_learns(trained: Path, tmp_path: Path) -> None:
    """A folder without a discriminator: the generator stays as it is until a new one has learned."""
    bare = shutil.copytree(trained, tmp_path / "bare")
    (bare / DISCRIMINATOR).unlink()
    manifest = read_json(bare / "manifest.json")
    del manifest["files"][DISCRIMINATOR]
    write_json(bare / "manifest.json", manifest)
    run = tmp_path / "waits"
    options = ["--run.dir", str(run), "--generator.start", str(bare), *OPTIONS]
    options += ["--generator.wait_images", "8"]
    stop_half_way([*options, "--generator.images", "8"])
    (state,) = (run / "generator/checkpoints").glob("state-*")
    kept, before = load_state(state), read_start(bare)
    assert kept["step"] == 2
    for name in before.generator:
        if name != "w_mean":
            assert torch.equal(kept["generator"][name], before.generator[name]), name
            assert torch.equal(kept["average"][name], before.average[name]), name
    made = run_cli("generator", *options, "--generator.images", "8")
    assert made.returncode == 0, made.stderr
    assert "resumed at image 8" in made.stdout
    figures = read_json(run / "generator/manifest.json")["figures"]
    assert figures["images"] == 16 and figures["rates"]["wait_images"] == 8
    after = read_start(run / "generator")
    assert not torch.equal(after.generator["constant"], before.generator["constant"])
