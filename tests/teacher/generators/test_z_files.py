"""z in .npy files: read as numbers, or refused in one sentence, whatever the file claims."""

import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from teacher.generators.sampling import read_z
from tests.mutations import check

GOOD = np.random.RandomState(0).randn(3, 4).astype(np.float32)


def claimed(shape: str, descr: str = "'<f4'") -> bytes:
    """The header of a .npy file, and 48 bytes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + GOOD.tobytes()


def saved(path: Path, array: Any, **options: Any) -> bytes:
    np.save(path, array, **options)
    return path.read_bytes()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_kind(tmp_path: Path, kind: Any, order: Any) -> None:
    np.save(tmp_path / "z.npy", np.array(GOOD.astype(kind), order=order))
    z = read_z(tmp_path / "z.npy", 4)
    assert z.dtype == torch.float32 and z.shape == (3, 4)
    assert np.allclose(z.numpy(), GOOD.astype(kind).astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claimed("(4611686018427387904, 4)"), "is a damaged .npy file"),
        (claimed("(1000000000000, 4)"), "is a damaged .npy file"),
        (claimed("(4, 4)"), "is a damaged .npy file"),
        (claimed("(-3, 4)"), ""),
        (claimed("('a', 4)"), "is a damaged .npy file"),
        (claimed("(" * 300 + ")" * 300), "is a damaged .npy file"),
        (claimed("(3, 4)", "'O'"), "other things than numbers (Python objects)"),
        (claimed("(3, 4)", "[('a', '<f4')]"), "must hold float32 [N, 4]"),
        (claimed("(3, 4)", "'<i4'"), "it holds int32 [3, 4]"),
        (claimed("(3, 4)", "'<M8[s]'"), ""),
        (claimed("(6, 2)"), "it holds float32 [6, 2]"),
        (claimed("(12,)"), "it holds float32 [12]"),
        (claimed("()"), "it holds float32 []"),
        (claimed("(0, 4)"), "it holds float32 [0, 4]"),
        (b"", "is no .npy file"),
        (b"\x93NUMPY", "is a damaged .npy file"),
        (b"\x80\x04K\x01.", "is no .npy file"),
        (b"0.1,0.2,0.3,0.4\n", "is no .npy file"),
    ],
)
def test_what_is_no_z_is_refused_without_the_memory_that_it_claims(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "z.npy"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as refused:
        read_z(path, 4)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    said = str(refused.value)
    assert said.startswith(str(path)) and message in said and said.endswith(".")
    assert "allow_pickle" not in said


def test_values_files_and_archives_that_are_none(tmp_path: Path) -> None:
    for wrong in (np.nan, np.inf, 1e300):
        array = GOOD.astype(np.float64)
        array[1, 2] = wrong
        saved(tmp_path / "z.npy", array)
        with pytest.raises(UserError, match="no finite number in row 1"):
            read_z(tmp_path / "z.npy", 4)
    saved(tmp_path / "z.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="Python objects"):
        read_z(tmp_path / "z.npy", 4)
    np.savez(tmp_path / "z.npz", z=GOOD)
    with pytest.raises(UserError, match=r"z\.npz is an \.npz file; save z by numpy\.save"):
        read_z(tmp_path / "z.npz", 4)
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        read_z(tmp_path, 4)
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        read_z(tmp_path / "none.npy", 4)


def test_mutated_files(tmp_path: Path) -> None:
    saved(tmp_path / "z.npy", GOOD)
    refused = check(
        tmp_path / "z.npy",
        lambda path: read_z(path, 4),
        lambda z: z.dtype == torch.float32 and z.shape[1] == 4 and bool(z.isfinite().all()),
    )
    assert refused > 100
