"""A generator of another family goes the whole way: nothing of ours but a line of the table differs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import UserError
from common.files import read_json, write_json
from common.stage_folder import artifact_hash
from datasets.annotations import LATENTS
from datasets.labels import LabelSet
from teacher.generators.base import FeatureGenerator, FeatureMap, Latents, inputs_by_number
from teacher.generators.registry import GENERATORS, load_generator
from tests.conftest import LABELS, draw_masks, run_cli

Z, WIDTHS, SIDE = 16, (24, 16, 12, 8), 32


class Toy(nn.Module):
    """After Radford et al., "Unsupervised Representation Learning with DCGAN" (2015): z and nothing else.

    It has no styles, no layers with codes of their own and no noise inputs.
    """

    resolution, z_size, code, layer_sides = SIDE, Z, "z", ()

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((Z, *WIDTHS), WIDTHS, strict=False)
        self.blocks = nn.ModuleList(
            nn.ConvTranspose2d(narrow, wide, 4, 2 if level else 1, 1 if level else 0)
            for level, (narrow, wide) in enumerate(sizes)
        )
        self.to_rgb = nn.Conv2d(WIDTHS[-1], 3, 3, padding=1)

    @property
    def device(self) -> torch.device:
        return self.to_rgb.weight.device

    @property
    def features(self) -> Mapping[str, FeatureMap]:
        return {f"{4 << level}": FeatureMap(w, 4 << level) for level, w in enumerate(WIDTHS)}

    def random_inputs(self, seed: int, numbers: Sequence[int]) -> Latents:
        return inputs_by_number(seed, numbers, lambda state: {"z": torch.randn(Z, generator=state)})

    def inputs_of_z(self, z: Tensor) -> Latents:
        return {"z": z}

    def latents(self, inputs: Latents, psi: float) -> Latents:
        return {"z": psi * inputs["z"].to(self.device)}

    def synthesise(self, latents: Latents) -> tuple[Tensor, list[Tensor]]:
        x, features = latents["z"][:, :, None, None], list[Tensor]()
        for block in self.blocks:
            x = block(x).relu()
            features.append(x)
        return self.to_rgb(x).tanh(), features


class ToyFamily:
    """Folders with `"family": "toy"` in generator.json, and the weights beside it."""

    def claims(self, path: Path) -> bool:
        return path.is_dir() and read_json(path / "generator.json").get("family") == "toy"

    def load(self, path: Path, device: torch.device) -> FeatureGenerator:
        toy = Toy().to(device)
        toy.load_state_dict(load_file(path / "generator.safetensors"))
        return toy.eval().requires_grad_(False)


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an untrained one; its family is in the table."""
    monkeypatch.setitem(GENERATORS, "toy", ToyFamily())
    torch.manual_seed(0)
    toy = Toy()
    for (
        parameter
    ) in toy.parameters():  # gains at which ReLUs keep the deviation, so that samples differ
        if parameter.ndim > 1:
            fan = parameter.numel() / parameter.shape[1] / (4 if parameter.shape[-1] == 4 else 1)
            nn.init.normal_(parameter, std=(2 / fan) ** 0.5)
    folder = tmp_path / "generator"
    write_json(folder / "generator.json", {"family": "toy"})
    save_file(toy.state_dict(), folder / "generator.safetensors")
    return folder


@pytest.fixture
def arguments(generator: Path, tmp_path: Path) -> list[object]:
    """Of a run with it, as short as can be."""
    options = {
        "run.dir": tmp_path / "run", "sources.generator": generator, "sources.labels": LABELS,
        "sources.annotations": tmp_path / "annotated",
        "teacher.epochs": 2, "teacher.val_every": 2, "teacher.network.widths": "[16, 8, 8, 8]",
        "label.count": 16, "label.shard_size": 8, "label.batch_size": 4,
        "student.network.encoder": "resnet10t", "student.network.levels": 2,
        "student.network.decoder_width": 8, "student.network.detail_channels": 4,
        "student.steps": 3, "student.batch_size": 4, "student.val_images": 4,
        "student.val_every": 3, "student.workers": 0, "student.resolution": SIDE,
        "inversion_encoder.images": 16, "inversion_encoder.batch_size": 8,
        "inversion_encoder.val_images": 4, "compare.held_out_images": 4,
        "compare.inversion_images": 2, "compare.inversion.steps": 2,
        "compare.inversion.random_starts": 4, "compare.timed_images": 1, "compare.shown_images": 1,
    }  # fmt: skip
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def annotate(generator: Path, folder: Path, labels: LabelSet) -> None:
    """Draw samples, and masks for them; leaves `samples` and `annotated` in the folder."""
    made = run_cli(
        "sample", "--generator", generator, "--count", 9, "--choose", 3, "--truncation", 0.8,
        "--out", folder / "samples",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    draw_masks(folder / "samples", labels, SIDE)
    made = run_cli(
        "annotate", "--samples", folder / "samples", "--masks", folder / "samples/masks",
        "--out", folder / "annotated",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_it_goes_the_whole_way(
    generator: Path, arguments: list[object], tmp_path: Path, labels: LabelSet
) -> None:
    annotate(generator, tmp_path, labels)
    stored = load_file(tmp_path / "annotated" / LATENTS)
    assert {name: list(tensor.shape) for name, tensor in stored.items()} == {"z": [3, Z]}
    made = run_cli("distill", *arguments)
    assert made.returncode == 0, made.stderr

    run = tmp_path / "run"
    assert read_json(run / "teacher/teacher.json")["features"] == {
        "4": 24, "8": 16, "16": 12, "32": 8,
    }  # fmt: skip
    assert read_json(run / "label/pseudo_labels.json")["count"] == 16
    assert "student.safetensors" in read_json(run / "student/manifest.json")["files"]
    assert read_json(run / "compare/manifest.json")["inputs"]["generator"] == artifact_hash(
        generator
    )
    tests = read_json(run / "compare/comparison.json")["test_sets"]
    assert set(tests) == {"held_out", "held_out_inverted"}
    assert "student" in tests["held_out"]["models"]
    assert {"student", "teacher_by_inversion"} <= set(tests["held_out_inverted"]["models"])


def test_photographs_are_inverted_with_its_one_code(
    generator: Path, tmp_path: Path, labels: LabelSet
) -> None:
    annotate(generator, tmp_path, labels)
    made = run_cli(
        "annotate", "--generator", generator, "--samples", tmp_path / "samples/images",
        "--masks", tmp_path / "samples/masks", "--out", tmp_path / "again",
        "--inversion.steps", 60, "--inversion.noise_learning_rate", 0.1,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    again = load_file(tmp_path / "again" / LATENTS)
    assert list(again) == ["z"] and again["z"].shape == (3, Z)
    assert min(read_json(tmp_path / "again/samples.json")["origin"]["psnr"].values()) > 15


def test_styles_cannot_be_mixed_where_there_are_none(
    generator: Path, arguments: list[object], tmp_path: Path, labels: LabelSet
) -> None:
    annotate(generator, tmp_path, labels)
    made = run_cli("teacher", *arguments, "--teacher.style_mixing_from", 8)
    assert made.returncode == 2
    assert "teacher.style_mixing_from" in made.stderr and made.stderr.count("error:") == 1


def test_a_family_that_is_not_in_the_table_is_refused(
    generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(GENERATORS, "toy")
    with pytest.raises(UserError, match="no generator of a known family"):
        load_generator(generator)
