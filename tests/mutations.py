"""Files that were cut, flipped, emptied or swapped, for readers to give a right result or one sentence."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError
from tests.datasets.masks.writers import make_truth, png

TIMES = 300
Read = Callable[[Path], Any]


def mutations(content: bytes, seed: int, times: int) -> Iterator[bytes]:
    """The same bytes, damaged in all ways that happen; the first ones are empty and other files."""
    state = random.Random(seed)
    yield from (
        b"",
        b"\0",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        png(make_truth()),
        b"PK\3\4",
        b"a: [b",
        content[1:],
    )
    for _ in range(times):
        damaged = bytearray(content)
        kind, at = state.randrange(6), state.randrange(len(content))
        length = min(state.randrange(1, 40), len(content) - at)
        if kind == 0:
            del damaged[at:]
        elif kind == 1:
            del damaged[at : at + length]
        elif kind == 2:
            damaged[at : at + length] = bytes(length)
        elif kind == 3:
            damaged[at:at] = state.randbytes(length)
        elif kind == 4:
            damaged[at : at + length] = state.randbytes(length)
        else:
            for _ in range(state.randrange(1, 4)):
                damaged[state.randrange(len(damaged))] ^= 1 << state.randrange(8)
        yield bytes(damaged)


@contextmanager
def as_outside_of_tests() -> Iterator[None]:
    """Where warnings are no errors, which would be caught with the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(
    path: Path, read: Read, is_right: Callable[[Any], bool], seed: int = 0, times: int = TIMES
) -> int:
    """Read all mutations of a file; gives how many were refused."""
    whole, refused = path.read_bytes(), 0
    with as_outside_of_tests():
        assert is_right(read(path))
        for damaged in mutations(whole, seed, times):
            path.write_bytes(damaged)
            try:
                found = read(path)
            except UserError as error:
                said = str(error)
                assert said.isprintable() and said.endswith(".") and len(said) < 900, said
                refused += 1
            else:
                assert is_right(found), damaged
    path.write_bytes(whole)
    return refused
