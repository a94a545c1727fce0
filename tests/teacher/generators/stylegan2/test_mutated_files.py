"""Files truncated, flipped, emptied and renamed at random: a generator or one sentence, nothing else."""

import contextlib
import random
import shutil
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.start import read_start
from tests.teacher.generators.stylegan2.foreign import (
    write_nvidia,
    write_rosinality,
    write_tensorflow,
)
from tests.teacher.generators.stylegan2.original import make_tensors
from tests.teacher.generators.stylegan2.test_golden import FEW

ROUNDS = 40  # of each file
SMALL = (6, 4)


def mutated(data: bytes, state: random.Random) -> bytes:
    """The file with one kind of damage."""
    kind, place = state.randrange(6), state.randrange(len(data))
    changed = bytearray(data)
    if kind == 0:
        return data[:place]
    if kind == 1:  # flipped bits, more often near the beginning, where the structure is
        for _ in range(state.choice((1, 3, 30))):
            changed[int(len(data) * state.random() ** 3)] ^= 1 << state.randrange(8)
    elif kind == 2:
        changed[place : place + state.choice((1, 8, 1000))] = b""
    elif kind == 3:
        changed[place : place + 100] = bytes(100)
    elif kind == 4:
        part = data[place : place + 500]
        changed[state.randrange(len(data)) :][:0] = part
        changed += part
    else:  # another name
        names = (
            b"weight",
            b"bias",
            b"synthesis",
            b"conv",
            b"numpy",
            b"style",
            b"variables",
            b"state",
        )
        name = state.choice(names)
        changed = bytearray(data.replace(name, name[::-1], state.choice((1, 5, 1000))))
    return bytes(changed)


def write_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    tensors = make_tensors(SMALL, 5, 4, 2)
    files = [
        write_nvidia(folder / "a.pkl", tensors, monkeypatch),
        write_tensorflow(folder / "b.pkl", tensors, monkeypatch),
        write_rosinality(folder / "c.pt", tensors),
        write_rosinality(folder / "d.pt", tensors, legacy=True),
    ]
    golden = sorted(FEW.glob("*.p[kt]*"))
    return files + [Path(shutil.copy(path, folder / path.name)) for path in golden]


def test_mutated_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, loaded, sentences = random.Random(0), 0, 0
    for source in write_all(tmp_path, monkeypatch):
        load_generator(source)
        data = source.read_bytes()
        for number in range(ROUNDS):
            suffix = state.choice((source.suffix, ".pkl", ".pt", ""))
            path = tmp_path / f"mutated{suffix}"
            path.write_bytes(mutated(data, state))
            try:
                generator = load_generator(path)
                with contextlib.suppress(UserError):  # its discriminator may be what is damaged
                    read_start(path)
            except UserError as error:
                sentence, sentences = str(error), sentences + 1
                assert str(path) in sentence and sentence.isprintable(), (source.name, number)
                assert sentence.endswith(".") and "weights_only" not in sentence
                continue
            inputs = generator.inputs_of_z(torch.randn(1, generator.z_size))
            image, _ = generator.synthesise(generator.latents(inputs, 1.0))
            assert image.shape == (1, 3, generator.resolution, generator.resolution)
            loaded += 1
    assert loaded > 10 and sentences > 100


def test_emptied_and_foreign_files(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    contents = {
        "empty": b"", "newline": b"\n", "stop": b".", "zeros": bytes(1000), "page": b"<!DOCTYPE html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "image": (tmp_path / "image.png").read_bytes(), "zip": b"PK\x05\x06" + bytes(18),
        "head": bytes.fromhex("80028a0a6cfc9c46f9206aa85019"), "json": b'{"a": 1}',
    }  # fmt: skip
    for name, content in contents.items():
        for suffix in (".pkl", ".pt", ".safetensors"):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(content)
            with pytest.raises(UserError) as error:
                load_generator(path)
            assert str(path) in str(error.value) and str(error.value).isprintable()
