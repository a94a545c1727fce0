"""The pickle machine: what every protocol makes of plain data, in all spellings of the names."""

import argparse
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from teacher.generators.stylegan2.formats import read_checkpoint
from teacher.generators.stylegan2.formats.known_names import Record
from teacher.generators.stylegan2.formats.pickle_stack import Inert
from teacher.generators.stylegan2.formats.safe_pickle import read_pickle
from teacher.generators.stylegan2.formats.tensors import Array, Dtype
from tests.teacher.generators.stylegan2.foreign import (
    Network,
    fake_tensorflow,
    nvidia_modules,
    tensorflow_variables,
    write_nvidia,
)
from tests.teacher.generators.stylegan2.original import make_tensors
from tests.teacher.generators.stylegan2.test_hostile_files import Call

PROTOCOLS = range(6)
PLAIN: dict[str, Any] = {
    "none": None,
    "booleans": [True, False],
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**64), 10**30],
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "complex": 1 + 2j,
    "texts": ["", "a", "ä€\U0001f600", "two\nlines", "back\\slash", "'\"", "x" * 300],
    "bytes": [b"", b"a", b"\x00\xff\n'", b"x" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1, 2), (3,))],
    "lists": [[], [1], [*range(2000)]],
    "dictionaries": [{}, {"a": 1}, {1: "a", (1, 2): "b", None: "c", b"d": 0.5}],
    "a long dictionary": {i: i for i in range(2000)},
    "sets": [set(), {1, 2}, {"a", ("b", 1)}],
    "frozen sets": [frozenset(), frozenset({1, "a"})],
    "ordered": OrderedDict([("b", 1), ("a", OrderedDict())]),
    "default": defaultdict(int),
}  # fmt: skip
ARRAYS: dict[str, np.ndarray] = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "float64": np.linspace(0, 1, 5),
    "half": np.ones((2, 2), np.float16),
    "integers": np.arange(-3, 3),
    "bytes": np.arange(4, dtype=np.uint8),
    "booleans": np.array([True, False]),
    "big endian": np.arange(3, dtype=">f4"),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "turned": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "part": np.arange(10.0)[::2],
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
NUMBERS: list[Any] = [
    np.float32(0.1),
    np.float64(0.1),
    np.float16(0.5),
    np.int64(-7),
    np.uint8(200),
    np.bool_(True),
]


def old_numpy(data: bytes) -> bytes:
    """The same with NumPy's names before version 2."""
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        data = data.replace(new, old)
    return data


def read(data: bytes, folder: Path) -> Any:
    (folder / "file.pkl").write_bytes(data)
    return read_pickle(folder / "file.pkl")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_are_the_same_in_every_protocol(
    name: str, protocol: int, tmp_path: Path
) -> None:
    data = pickle.dumps({"value": PLAIN[name]}, protocol)
    assert read(data, tmp_path) == {"value": PLAIN[name]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_arrays_and_numbers_of_numpy(old: bool, protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps([ARRAYS, NUMBERS, np.dtype("f4")], protocol)
    assert (b"numpy._core" in data) and (not old or b"numpy._core" not in old_numpy(data))
    arrays, numbers, dtype = read(old_numpy(data) if old else data, tmp_path)
    for name, wanted in ARRAYS.items():
        found = arrays[name]
        assert isinstance(found, Array)
        assert found.shape == wanted.shape, name
        assert np.array_equal(found.numpy(), wanted) and found.numpy().dtype == wanted.dtype, name
    assert numbers == [number.item() for number in NUMBERS]
    assert isinstance(dtype, Dtype) and dtype.numpy() == np.float32


def test_names_of_python_2_and_3(tmp_path: Path) -> None:
    """Protocol 2 says __builtin__ and copy_reg, protocol 3 builtins."""
    value = {"set": {1}, "frozen": frozenset({2}), "array": bytearray(b"ab"), "complex": 1j}
    two, three = pickle.dumps(value, 2), pickle.dumps(value, 3)
    assert b"__builtin__\nset" in two and b"builtins\nset" in three
    unmoved = pickle.dumps(value, 2, fix_imports=False)
    assert b"__builtin__" not in unmoved
    for data in (two, three, unmoved):
        assert read(data, tmp_path) == value
    named = b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR"
    found = read(named + b"}(S'a'\nI1\nub.", tmp_path)
    assert isinstance(found, Record) and found.state == {"a": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_generator_is_the_same_in_every_protocol(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's modules and TensorFlow's networks, as each protocol writes their objects."""
    tensors = make_tensors((6, 4), 5, 4, 2)
    known = read_checkpoint(write_nvidia(tmp_path / "known.pkl", tensors, monkeypatch)).weights
    main, mapping, synthesis = tensorflow_variables(tensors)
    fake_tensorflow(monkeypatch)
    parts = {"mapping": Network("m", mapping), "synthesis": Network("s", synthesis)}
    scalars = {k: np.float32(v) if v.ndim == 0 else v for k, v in main.items()}
    for network in ({"G_ema": nvidia_modules(tensors)}, Network("Gs", scalars, **parts)):
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(network, protocol))
        found = read_checkpoint(tmp_path / "net.pkl").weights
        assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in known.items())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unknown_names_become_placeholders_without_state(protocol: int, tmp_path: Path) -> None:
    """What nobody knows elsewhere in a file: classes of optimisers, of data sets, of dill."""
    unknown = [Call(pytest.approx, 1.0), Path("a"), argparse.ArgumentParser, np.random.RandomState]
    found = read(pickle.dumps({"known": 1, "unknown": unknown}, protocol), tmp_path)
    assert found["known"] == 1
    assert isinstance(found["unknown"][0], Inert) and isinstance(found["unknown"][1], Inert)
    assert found["unknown"][1].name.startswith("pathlib")


def test_what_runs_code_is_named_and_nobody_is_accused(tmp_path: Path) -> None:
    import os
    import subprocess

    for function in (os.system, subprocess.call, eval, exec, __import__, os.popen):
        for protocol in PROTOCOLS:
            path = tmp_path / "net.pkl"
            path.write_bytes(pickle.dumps({"G_ema": None, "x": Call(function, "true")}, protocol))
            with pytest.raises(UserError, match=f"{function.__name__}, which runs code") as refused:
                read_checkpoint(path)
            assert "hostile" not in str(refused.value)
