"""Files that appear whole or not at all, and JSON.

Imports nothing beyond the standard library: `student/predict` runs where there is no PyTorch.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.archives import read_text
from common.errors import UserError, brief

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_write(path: Path, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there appears whole or not at all.

    Args:
        sync: wait until the disk has it, so that a power cut leaves no empty file; slow for many small
            ones.

    Raises:
        UserError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    if partial.is_file():
        partial.unlink()  # a killed run's
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # some writers let nobody else read their files
        if sync:
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())
        partial.replace(path)
    except Exception as error:  # writers of other languages have errors of their own
        if not _is_full_disk(error):
            raise
        raise UserError(
            f"{path} cannot be written, the disk is full; make room and run the same command again. "
            "What was finished before is intact."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _is_full_disk(error: Exception) -> bool:
    # safetensors gives the number in its text alone.
    return getattr(error, "errno", None) in _DISK_FULL or any(
        f"os error {number})" in str(error) for number in _DISK_FULL
    )


def write_json(path: Path, values: Any) -> None:
    """Write a tree of plain values, indented."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, in UTF-8 or as `common.archives.read_text` takes it.

    Raises:
        UserError: it is missing, is in another encoding or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        told = brief(error).partition(";")[0]
        raise UserError(f"{path} is not valid JSON ({told}); make it again.") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested without end; make it again.") from error


def read_fields(
    path: Path, kinds: Mapping[str, type], remedy: str = "make it again"
) -> dict[str, Any]:
    """Read a JSON file that is a mapping, of which some values have to be there.

    Args:
        kinds: types of these values by name.

    Raises:
        UserError: see `read_json`; or it is no mapping, or lacks a value; says the remedy.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is no mapping of names to values; {remedy}.")
    for name, kind in kinds.items():
        value = values.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {"dict": "mapping", "str": "text"}.get(kind.__name__, kind.__name__)
            raise UserError(f"{path} has no {name}, or one that is no {words}; {remedy}.")
    return values


def hash_file(path: Path) -> str:
    """SHA-256 of a file's contents, as hexadecimal text."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
