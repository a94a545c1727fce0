"""Files of a few kB that claim far more: one sentence, within seconds and little memory."""

import io
import json
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.network import Generator, GeneratorConfig
from tests.teacher.generators.stylegan2.foreign import (
    Network,
    Persistent,
    fake_nvidia,
    fake_tensorflow,
    nvidia_modules,
    rosinality_tensors,
    tensorflow_variables,
)
from tests.teacher.generators.stylegan2.original import make_tensors

SECONDS, KILOBYTES = 10, 1_000_000
HEAD = b"\x80\x04"


def short(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def doubled_tuple(levels: int) -> bytes:
    """A tuple of a tuple twice, and so on: quick to write, endless to hash."""
    return b"N" + b"\x85" + b"".join(b"2\x86" for _ in range(levels))


def repeated_call(name: bytes, argument: bytes, count: int) -> bytes:
    """A list of the results of many calls with one argument."""
    calls = b"h\x00h\x01R" * count
    return HEAD + b"c" + name + b"\nq\x000" + argument + b"\x85q\x010](" + calls + b"e."


def doubled_setting(place: str) -> Callable[[], bytes]:
    """A setting that is a list of a list twice, and so on: endless to print."""

    def write() -> bytes:
        value: list[Any] = []
        for _ in range(60):
            value = [value, value]
        network = nvidia_modules(make_tensors((8, 8)))
        owner = network if place == "c_dim" else network.get_submodule("synthesis.b8.conv0")
        owner.__dict__[place] = value
        return pickle.dumps({"G_ema": network}, 4)

    return write


def shared_modules() -> bytes:
    module = Persistent("Leaf")
    for _ in range(14):
        above = Persistent("Block")
        for name in "abcd":
            above.add_module(name, module)
        module = above
    return pickle.dumps({"G_ema": module}, 4)


def shared_components() -> bytes:
    network = Network("leaf", {})
    for _ in range(40):
        network = Network("n", {}, mapping=network, synthesis=network)
    return pickle.dumps(network, 4)


def one_array_many_times() -> bytes:
    main, mapping, synthesis = tensorflow_variables(make_tensors((8, 8)))
    mapping |= {f"Dense{i}/{k}": v for i in range(3, 5000) for k, v in
                (("weight", mapping["Dense1/weight"]), ("bias", mapping["Dense1/bias"]))}  # fmt: skip
    parts = {"mapping": Network("m", mapping), "synthesis": Network("s", synthesis)}
    return pickle.dumps(Network("Gs", dict(main), **parts), 4)


PICKLES: dict[str, Callable[[], bytes]] = {
    "a tuple as a key": lambda: HEAD + b"}" + doubled_tuple(60) + b"Ns.",
    "a tuple in a set": lambda: HEAD + b"\x8f(" + doubled_tuple(60) + b"\x90.",
    "a tuple in a frozen set": lambda: HEAD + b"(" + doubled_tuple(60) + b"\x91.",
    "_codecs.encode": lambda: repeated_call(b"_codecs\nencode", short(b"x" * 20_000), 100_000),
    "torch.Size": lambda: repeated_call(b"torch\nSize", b"(" + b"N" * 10_000 + b"l", 100_000),
    "OrderedDict": lambda: repeated_call(
        b"collections\nOrderedDict", b"(" + b"K\x01K\x02\x86" * 3000 + b"l", 100_000
    ),
    "set": lambda: repeated_call(b"builtins\nset", b"(" + b"K\x01" * 9000 + b"l", 100_000),
    "bytearray of a length": lambda: HEAD + b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "bytes of a length": lambda: HEAD + b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "a memo's number": lambda: HEAD + b"Nr\xff\xff\xff\xff.",
    "a text's length": lambda: HEAD + b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "a long number": lambda: b"I" + b"9" * 200_000 + b"\n.",
    "a deep list": lambda: HEAD + b"]" * 100_000 + b"a" * 99_999 + b".",
    "marks": lambda: HEAD + b"(" * 100_000 + b"l" * 100_000 + b".",
    **{
        f"a vast {name}": doubled_setting(name)
        for name in ("activation", "conv_clamp", "up", "padding", "act_gain", "c_dim")
    },
    "shared modules": shared_modules,
    "shared components": shared_components,
    "one array for 5000 layers": one_array_many_times,
    "an array of a shape": lambda: HEAD + b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f"
    b"\x85cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R\x89C\x00tb.",
}  # fmt: skip


def rosinality(change: Callable[[dict[str, Any]], object]) -> bytes:
    state: dict[str, Any] = dict(rosinality_tensors(make_tensors((8, 8))))
    change(state)
    buffer = io.BytesIO()
    torch.save({"g_ema": state}, buffer)
    return buffer.getvalue()


def deeper(state: dict[str, Any]) -> None:
    for i in range(4, 3000):
        state |= {
            f"style.{i}.weight": state["style.2.weight"],
            f"style.{i}.bias": state["style.2.bias"],
        }


def squeezed(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The archive with its members compressed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def stretched(name: str, size: int) -> Callable[[dict[str, Any]], object]:
    """A tensor that states a size and holds one number."""
    return lambda state: state.update({name: torch.ones(1).expand(size, size)})


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "3000 layers on one storage": lambda: rosinality(deeper),
    "stride 0": lambda: rosinality(stretched("style.1.weight", 8000)),
    "a vast stride 0": lambda: rosinality(stretched("style.1.weight", 10**6)),
    "no numbers": lambda: rosinality(
        lambda state: state.update({"style.1.bias": torch.empty(12, device="meta")})
    ),
    "a compressed storage": lambda: squeezed(
        rosinality(lambda state: None), lambda n, d: bytes(10**6) if "/data/" in n else d
    ),
    "a compressed pickle": lambda: squeezed(
        rosinality(lambda state: None), lambda n, d: b"N0" * 10**7 if "data.pkl" in n else d
    ),
}  # fmt: skip

JSON: dict[str, object] = {
    "no channels": {"latent_size": 8}, "a list": [1], "a number": 3,
    "channels as a text": {"channels": "8"},
    "many levels": {"channels": [8] * 40}, "wide": {"channels": [10**9] * 3}, "zero": {"channels": [0, 8]},
    "deep": {"channels": [8, 8], "mapping_layers": 10**9},
    "long z": {"channels": [8, 8], "latent_size": 10**12}, "many weights": {"channels": [8000] * 9},
    "a bad limit": {"channels": [8, 8], "clamp": "x"}, "unknown": {"channels": [8, 8], "colour\x1b": 1},
    "not what the weights are": {"channels": [4096] * 3, "latent_size": 512},
    "no taps": {"channels": [8, 8], "filter": []},
    "classes": {"channels": [8, 8], "classes": 10**9, "label_size": 1},
    "a kind": {"channels": [8, 8], "activation": "tanh"}, "nested": "[" * 100_000,
}  # fmt: skip


def refused(path: Path) -> str:
    """The sentence that refuses a generator; it took neither long nor much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        load_generator(path)
    assert time.monotonic() - begun < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    sentence = str(error.value)
    assert str(path) in sentence and sentence.isprintable() and len(sentence) < 1000
    assert "weights_only" not in sentence
    return sentence


@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia(monkeypatch)
    fake_tensorflow(monkeypatch)
    (tmp_path / "net.pkl").write_bytes(PICKLES[name]())
    refused(tmp_path / "net.pkl")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(ARCHIVES[name]())
    refused(tmp_path / "net.pt")


@pytest.mark.parametrize("name", JSON)
def test_generator_folders(name: str, tmp_path: Path) -> None:
    about = JSON[name]
    text = about if isinstance(about, str) else json.dumps(about)
    (tmp_path / "generator.json").write_text(text)
    small = Generator(GeneratorConfig((8, 8), 8, None, 4))
    save_file(small.state_dict(), tmp_path / "generator.safetensors")
    refused(tmp_path)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    small = Generator(GeneratorConfig((8, 8), 8, None, 4))
    (tmp_path / "generator.json").write_text(json.dumps(small.config.to_json()))
    state = small.state_dict()
    state["constant"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "generator.safetensors")
    assert "constant holds values that are no finite numbers" in refused(tmp_path)


def test_control_characters_of_a_file_never_reach_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred\n": 1}, tmp_path / "a.pt")
    assert "?[31mred?" in refused(tmp_path / "a.pt")
