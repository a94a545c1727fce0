"""Checkpoints of other projects: every format gives the generator whose images its own code draws."""

import io
import json
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import write_json
from common.stage_folder import artifact_hash
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.architecture import Architecture
from teacher.generators.stylegan2.files import load
from teacher.generators.stylegan2.formats import FORMATS, Checkpoint, read_checkpoint
from teacher.generators.stylegan2.formats.base import CheckpointFile
from teacher.generators.stylegan2.network import Generator, GeneratorConfig
from tests.teacher.generators.stylegan2.foreign import (
    fake_nvidia,
    nvidia_modules,
    rosinality_tensors,
    write_nvidia,
    write_rosinality,
    write_tensorflow,
)
from tests.teacher.generators.stylegan2.original import Tensors, make_tensors, original_image
from train import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return make_tensors()


class FormatContract(ABC):
    """What every format passes; a subclass for each says how its files are written.

    Attributes:
        name: its name in FORMATS.
    """

    name: str

    @abstractmethod
    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Write the generator of these tensors as the format's own code does."""

    @pytest.mark.parametrize("psi", [1.0, 0.7])
    def test_the_image_is_the_originals(
        self, psi: float, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = load(self.write(tmp_path / "file", tensors, monkeypatch), CPU)
        z = torch.randn(3, 16)
        w = generator.truncate(generator.mapping(z), psi)
        image, features = generator.synthesis(w, generator.constant_noise())
        expected = original_image(tensors, z, psi)
        assert expected.std() > 0.1
        assert (image - expected).abs().max() < 1e-4
        assert [*generator.features] == [
            "4.0", *(f"{r}.{i}" for r in (8, 16, 32, 64) for i in (0, 1)),
        ]  # fmt: skip
        assert [f.shape[1] for f in features] == [24, 20, 20, 16, 16, 12, 12, 8, 8]

    def test_structure_of_ffhq_256(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The real depth and latent sizes; the real resolution with narrow layers."""
        tensors = make_tensors((16, 16, 16, 16, 12, 8, 4), z_dim=512, w_dim=512, depth=8)
        config = read_checkpoint(self.write(tmp_path / "file", tensors, monkeypatch)).config
        assert config.resolution == 256
        assert config.channels == (16, 16, 16, 16, 12, 8, 4)
        assert (config.latent_size, config.w_dim, config.mapping_layers) == (512, 512, 8)

    def test_only_this_format_claims_it(
        self, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.write(tmp_path / "file", tensors, monkeypatch)
        file = CheckpointFile(path)
        assert [name for name, kind in FORMATS.items() if kind.claims(file)] == [self.name]

    def test_a_truncated_file_is_named(
        self, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.write(tmp_path / "file", tensors, monkeypatch)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match="damaged") as refused:
            read_checkpoint(path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)


class TestNvidiaPytorch(FormatContract):
    name = "nvidia_pytorch"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        return write_nvidia(path, tensors, monkeypatch)


class TestNvidiaTensorflow(FormatContract):
    name = "nvidia_tensorflow"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        return write_tensorflow(path, tensors, monkeypatch)


class TestRosinality(FormatContract):
    name = "rosinality"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        return write_rosinality(path, tensors)


class TestRosinalityLegacy(FormatContract):
    """As torch.save wrote before it wrote zip files."""

    name = "rosinality"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        return write_rosinality(path, tensors, legacy=True)


class TestNvidiaStateDict(FormatContract):
    """NVIDIA's tensors saved by torch.save."""

    name = "nvidia_state_dict"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        torch.save(nvidia_modules(tensors).state_dict(), path)
        return path


class TestNvidiaInTorchSave(FormatContract):
    """NVIDIA's snapshot saved by torch.save instead of pickle."""

    name = "nvidia_pytorch"

    def write(self, path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> Path:
        fake_nvidia(monkeypatch)
        torch.save({"G_ema": nvidia_modules(tensors)}, path)
        return path


CONTRACTS: tuple[FormatContract, ...] = (
    TestNvidiaPytorch(),
    TestNvidiaTensorflow(),
    TestRosinality(),
    TestRosinalityLegacy(),
    TestNvidiaStateDict(),
    TestNvidiaInTorchSave(),
)


def test_every_format_has_a_contract() -> None:
    assert {contract.name for contract in CONTRACTS} == {*FORMATS}


def test_nothing_differs_between_the_formats(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = [
        read_checkpoint(contract.write(tmp_path / str(i), tensors, monkeypatch)).weights
        for i, contract in enumerate(CONTRACTS)
    ]
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.allclose(other[name], first[name], atol=1e-6) for name in first)


def test_training_file_without_noise_and_mean(tensors: Tensors, tmp_path: Path) -> None:
    path = write_rosinality(tmp_path / "550000.pt", tensors, training=True, noise=False)
    checkpoint, again = read_checkpoint(path), read_checkpoint(path)
    assert len(checkpoint.notes) == 2
    assert all(torch.equal(again.weights[k], v) for k, v in checkpoint.weights.items())
    generator = load(path, CPU)
    mapped = generator.mapping(torch.randn(4096, 16)).mean(0)
    assert torch.allclose(generator.w_mean, mapped, atol=0.15)
    assert generator.constant_noise()[3].std() > 0.5


def test_convert_then_sample_from_file_and_folder(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch)
    assert main(["convert", "--checkpoint", str(path), "--out", str(tmp_path / "g")]) == 0
    assert artifact_hash(tmp_path / "g") == artifact_hash(path)
    z = np.random.RandomState(5).randn(1, 16).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    drawn = {}
    for name, source, which in [
        ("file", path, ["--seeds", "5"]),
        ("folder", tmp_path / "g", ["--latents", str(tmp_path / "z.npy")]),
    ]:
        out = tmp_path / name
        options = ["--generator", str(source), *which, "--truncation", "0.7", "--out", str(out)]
        assert main(["sample", *options]) == 0
        drawn[name] = (out / "images" / "0000.png").read_bytes()
        assert (out / "sheet.png").exists()
    assert drawn["file"] == drawn["folder"]
    assert main(["convert", "--checkpoint", str(path), "--out", str(tmp_path / "g")]) == 0


def test_a_refused_convert_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(b"no pickle")
    for out in (tmp_path / "g", tmp_path / "deep" / "g"):
        assert main(["convert", "--checkpoint", str(tmp_path / "net.pkl"), "--out", str(out)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["net.pkl"]


def test_convert_keeps_full_precision(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch)
    main(["convert", "--checkpoint", str(path), "--out", str(tmp_path / "g")])
    folder, file = load(tmp_path / "g", CPU), load(path, CPU)
    for (name, a), b in zip(folder.state_dict().items(), file.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def npz_claims(file: CheckpointFile) -> bool:
    """A toy format: our own state in a .npz file, the architecture beside it as JSON."""
    return file.path.suffix == ".npz"


def npz_read(file: CheckpointFile) -> Checkpoint:
    about = json.loads(file.path.with_suffix(".json").read_text())
    arrays = np.load(io.BytesIO(file.path.read_bytes()))
    weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return Checkpoint(Architecture.from_json(about), weights, "toy", [])


def test_a_new_format_is_two_functions_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "npz", SimpleNamespace(claims=npz_claims, read=npz_read))
    generator = Generator(GeneratorConfig((8, 8, 8), 8, None, 2))
    state, path = generator.state_dict(), tmp_path / "toy.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})  # type: ignore[arg-type]
    write_json(tmp_path / "toy.json", generator.config.to_json())
    assert main(["convert", "--checkpoint", str(path), "--out", str(tmp_path / "g")]) == 0
    for source in (path, tmp_path / "g"):
        loaded = load_generator(source)
        assert isinstance(loaded, Generator)
        assert all(torch.equal(loaded.state_dict()[k], tensor) for k, tensor in state.items())


def without(tensors: Tensors, name: str) -> Tensors:
    return {k: v for k, v in tensors.items() if k != name}


def test_missing_left_over_and_misshapen_tensors_are_named(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "synthesis.b16.conv1.affine.bias"
    path = write_nvidia(tmp_path / "a", without(tensors, name), monkeypatch)
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_checkpoint(path)
    more = tensors | {"synthesis.b16.conv1.gate": torch.ones(3)}
    with pytest.raises(UserError, match=r"synthesis\.b16\.conv1\.gate has no place"):
        read_checkpoint(write_nvidia(tmp_path / "b", more, monkeypatch))
    other = tensors | {name: torch.ones(5)}
    with pytest.raises(UserError, match=f"{name} has the shape"):
        read_checkpoint(write_nvidia(tmp_path / "c", other, monkeypatch))
    with pytest.raises(UserError, match=r"synthesis/8x8/Conv0_up/mod_bias is missing"):
        drop = ["8x8/Conv0_up/mod_bias"]
        read_checkpoint(write_tensorflow(tmp_path / "d", tensors, monkeypatch, drop))
    state = rosinality_tensors(without(tensors, "mapping.fc2.bias"))
    torch.save({"g_ema": state}, tmp_path / "e")
    with pytest.raises(UserError, match=r"style\.3\.bias is missing"):
        read_checkpoint(tmp_path / "e")


def test_other_kinds_of_generators_are_refused(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = {"mapping.fc0.weight": torch.ones(4, 4), "synthesis.L0_36_512.weight": torch.ones(2)}
    with pytest.raises(UserError, match="StyleGAN3"):
        read_checkpoint(write_nvidia(tmp_path / "b", three, monkeypatch))
    path = write_nvidia(tmp_path / "c", tensors, monkeypatch, architecture="resnet")
    with pytest.raises(UserError, match="resnet"):
        read_checkpoint(path)
    path = write_tensorflow(tmp_path / "d", tensors, monkeypatch, ["4x4/Const/const"])
    with pytest.raises(UserError, match="not StyleGAN2"):
        read_checkpoint(path)
    torch.save({"g_ema": None, "generator": {}}, tmp_path / "e")
    with pytest.raises(UserError, match="it holds g_ema, generator"):
        read_checkpoint(tmp_path / "e")
