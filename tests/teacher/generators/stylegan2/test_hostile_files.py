"""Checkpoint files that are hostile or damaged: one clear refusal, and none of their code is run."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from teacher.generators.stylegan2.formats import read_checkpoint
from tests.teacher.generators.stylegan2.foreign import (
    nvidia_modules,
    write_nvidia,
)
from tests.teacher.generators.stylegan2.original import Tensors, make_tensors


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return make_tensors()


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def evil_stream() -> bytes:
    buffer = io.BytesIO()
    torch.save(Call(print, "executed"), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def floats(count: int) -> Call:
    """A storage as torch pickles it within another pickle."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = torch.zeros(count).storage()
        torch.save(storage, buffer, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, buffer.getvalue())


def outside_storage() -> Call:
    storage = floats(20)
    return Call(torch._utils._rebuild_tensor_v2, storage, 2, (20,), (1,), False, OrderedDict())


def repeated() -> Call:
    """A tensor whose places all are the same number: more than its storage holds."""
    storage = floats(4)
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, (20,), (0,), False, OrderedDict())


def as_tensor(tensors: Tensors, name: str, reduction: Call) -> dict[str, Any]:
    """The file's network with one tensor replaced by something that reduces otherwise."""
    network = nvidia_modules(tensors)
    *path, last = name.split(".")
    place: Any = network
    for part in path:
        place = place._modules[part]
    place._parameters[last] = reduction
    return {"G_ema": network}


PICKLES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "call of a shell": (lambda t: {"G_ema": Call(__import__("os").system, "true")}, "system"),
    "call of eval": (lambda t: {"G_ema": Call(eval, "1")}, "eval"),
    "import by name": (lambda t: {"G_ema": Call(__import__, "os")}, "__import__"),
    "network of another library": (lambda t: {"G_ema": torch.nn.Linear(2, 2)}, "Linear"),
    "array of objects": (lambda t: {"G_ema": np.array([None, "x"], dtype=object)}, "no StyleGAN2"),
    "tensor outside its storage": (
        lambda t: as_tensor(t, "synthesis.b8.conv0.bias", outside_storage()), "outside its storage",
    ),
    "tensor larger than its storage": (
        lambda t: as_tensor(t, "synthesis.b8.conv0.bias", repeated()), "outside its storage",
    ),
    "no generator": (lambda t: {"D": None}, "no StyleGAN2 generator"),
    "a list": (lambda t: [1, 2], "holds a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_or_foreign_pickle(
    name: str,
    tensors: Tensors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make, said = PICKLES[name]
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch, content=make(tensors))
    with pytest.raises(UserError, match=said) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert capsys.readouterr().out == ""


RAW: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "damaged"),
    "a page": (b"<html>404</html>", "web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "half an archive": (b"PK\x03\x04" + bytes(99), "damaged"),
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
def test_damaged_file(name: str, tmp_path: Path) -> None:
    content, said = RAW[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_checkpoint(path)


def test_hostile_stream_within_a_tensor(
    tensors: Tensors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = Call(torch.storage._load_from_bytes, evil_stream())
    view = Call(torch._utils._rebuild_tensor_v2, storage, 0, (4,), (1,), False, OrderedDict())
    content = as_tensor(tensors, "synthesis.b8.conv0.bias", view)
    path = write_nvidia(tmp_path / "net.pkl", tensors, monkeypatch, content=content)
    with pytest.raises(UserError, match=r"print, which runs code"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_hostile_torch_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save({"g_ema": Call(print, "x")}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match=r"print, which runs code"):
            read_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match=r"has no member data\.pkl"):
        read_checkpoint(tmp_path / "photos.zip")
    assert capsys.readouterr().out == ""
