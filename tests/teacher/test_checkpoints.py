"""Generator files of other systems: the same picture, or one clear refusal."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.stage_folder import artifact_hash
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.formats import read_checkpoint
from tests.teacher.foreign import (
    make_tensors,
    nvidia_modules,
    original_image,
    rosinality_tensors,
    write_nvidia,
    write_rosinality,
    write_tensorflow,
)
from train import main


@pytest.fixture(scope="module")
def tensors():
    return make_tensors()


def write(kind, path, tensors, monkeypatch):
    if kind == "nvidia":
        return write_nvidia(path, tensors, monkeypatch)
    if kind == "tensorflow":
        return write_tensorflow(path, tensors, monkeypatch)
    return write_rosinality(path, tensors, legacy=kind == "rosinality legacy")


FORMATS = ["nvidia", "tensorflow", "rosinality", "rosinality legacy"]


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_picture_is_the_originals(kind, psi, tensors, tmp_path, monkeypatch):
    generator = load_generator(write(kind, tmp_path / "file", tensors, monkeypatch))
    z = torch.randn(3, 16)
    w = generator.truncate(generator.mapping(z), psi)
    image, features = generator.synthesis(w, generator.constant_noise())
    expected = original_image(tensors, z, psi)
    assert expected.std() > 0.1
    assert (image - expected).abs().max() < 1e-4
    assert generator.feature_names == ["4.0"] + [
        f"{r}.{i}" for r in (8, 16, 32, 64) for i in (0, 1)
    ]
    assert [f.shape[1] for f in features] == [24, 20, 20, 16, 16, 12, 12, 8, 8]


@pytest.mark.parametrize("kind", FORMATS)
def test_structure_of_ffhq_256(kind, tmp_path, monkeypatch):
    """The real depth and latent sizes; the real resolution with narrow layers."""
    tensors = make_tensors((16, 16, 16, 16, 12, 8, 4), z_dim=512, w_dim=512, depth=8)
    config = read_checkpoint(write(kind, tmp_path / "file", tensors, monkeypatch)).config
    assert config.resolution == 256
    assert config.channels == (16, 16, 16, 16, 12, 8, 4)
    assert (config.latent_size, config.w_dim, config.mapping_layers) == (512, 512, 8)


def test_nothing_differs_between_the_formats(tensors, tmp_path, monkeypatch):
    first, *others = [
        read_checkpoint(write(kind, tmp_path / kind, tensors, monkeypatch)).weights
        for kind in FORMATS
    ]
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.allclose(other[name], first[name], atol=1e-6) for name in first)


def test_training_file_without_noise_and_mean(tensors, tmp_path):
    path = write_rosinality(tmp_path / "550000.pt", tensors, training=True, noise=False)
    checkpoint, again = read_checkpoint(path), read_checkpoint(path)
    assert len(checkpoint.notes) == 2
    assert all(torch.equal(again.weights[k], v) for k, v in checkpoint.weights.items())
    generator = load_generator(path)
    mapped = generator.mapping(torch.randn(4096, 16)).mean(0)
    assert torch.allclose(generator.w_mean, mapped, atol=0.15)
    assert generator.layers[3].noise.std() > 0.5


def test_convert_then_sample_from_file_and_folder(tensors, tmp_path, monkeypatch):
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


def test_convert_keeps_full_precision(tensors, tmp_path, monkeypatch):
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch)
    main(["convert", "--checkpoint", str(path), "--out", str(tmp_path / "g")])
    folder, file = load_generator(tmp_path / "g"), load_generator(path)
    for (name, a), b in zip(folder.state_dict().items(), file.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def without(tensors, name):
    return {k: v for k, v in tensors.items() if k != name}


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil_stream():
    buffer = io.BytesIO()
    torch.save(Call(print, "executed"), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def floats(count):
    """A storage as torch pickles it within another pickle."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = torch.zeros(count).storage()
        torch.save(storage, buffer, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, buffer.getvalue())


def outside_storage():
    storage = floats(4)
    return Call(torch._utils._rebuild_tensor_v2, storage, 2, (4,), (1,), False, OrderedDict())


def vast_view():
    storage = floats(4)
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, (10**12,), (0,), False, OrderedDict())


def as_tensor(tensors, name, reduction):
    """The file's network with one tensor replaced by something that reduces otherwise."""
    network = nvidia_modules(tensors)
    *path, last = name.split(".")
    place = network
    for part in path:
        place = place._modules[part]
    place._parameters[last] = reduction
    return {"G_ema": network}


PICKLES = {
    "call of a shell": (lambda t: {"G_ema": Call(__import__("os").system, "true")}, "system"),
    "call of eval": (lambda t: {"G_ema": Call(eval, "1")}, "eval"),
    "import by name": (lambda t: {"G_ema": Call(__import__, "os")}, "__import__"),
    "network of another library": (lambda t: {"G_ema": torch.nn.Linear(2, 2)}, "Linear"),
    "array of objects": (lambda t: {"G_ema": np.array([None, "x"], dtype=object)}, "object"),
    "tensor outside its storage": (
        lambda t: as_tensor(t, "synthesis.b8.conv0.bias", outside_storage()), "outside its storage",
    ),
    "tensor larger than its storage": (
        lambda t: as_tensor(t, "synthesis.b8.conv0.bias", vast_view()), "outside its storage",
    ),
    "no generator": (lambda t: {"D": None}, "no generator under G_ema"),
    "a list": (lambda t: [1, 2], "holds a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_or_foreign_pickle(name, tensors, tmp_path, monkeypatch, capsys):
    make, said = PICKLES[name]
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch, content=make(tensors))
    with pytest.raises(UserError, match=said) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert capsys.readouterr().out == ""


RAW = {
    "empty": (b"", "damaged"),
    "a text": (b"<html>404</html>", "damaged"),
    "persistent reference": (b"\x80\x04Pfile\n.", "outside of it"),
    "change of a function": (
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "change a function",
    ),
    "state on a class": (b"cdnnlib.util\nEasyDict\n}X\x01\x00\x00\x00aK\x01sb.", "damaged"),
    "endless length": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "damaged"),
    "hostile inner stream": (
        pickle.dumps({"G_ema": None})[:0]
        + b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(evil_stream()))
        + evil_stream() + b"tR.", "no generator",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_damaged_file(name, tmp_path):
    content, said = RAW[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_checkpoint(path)


def test_hostile_stream_within_a_tensor(tensors, tmp_path, monkeypatch, capsys):
    storage = Call(torch.storage._load_from_bytes, evil_stream())
    view = Call(torch._utils._rebuild_tensor_v2, storage, 0, (4,), (1,), False, OrderedDict())
    content = as_tensor(tensors, "synthesis.b8.conv0.bias", view)
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch, content=content)
    with pytest.raises(UserError, match="damaged or holds no generator"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_file(kind, tensors, tmp_path, monkeypatch):
    path = write(kind, tmp_path / "file", tensors, monkeypatch)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


def test_hostile_torch_files(tmp_path, capsys):
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save({"g_ema": Call(print, "x")}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="damaged or holds no generator"):
            read_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match="damaged or holds no generator"):
        read_checkpoint(tmp_path / "photos.zip")
    assert capsys.readouterr().out == ""


def test_missing_left_over_and_misshapen_tensors_are_named(tensors, tmp_path, monkeypatch):
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


def test_other_kinds_of_generators_are_refused(tensors, tmp_path, monkeypatch):
    path = write_nvidia(tmp_path / "a", tensors, monkeypatch, c_dim=10)
    with pytest.raises(UserError, match="conditional"):
        read_checkpoint(path)
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
