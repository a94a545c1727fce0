"""Files that appear whole or not at all, and JSON.

Imports nothing beyond the standard library: `student/predict` runs where there is no PyTorch.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError

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
    """Read a JSON file.

    Raises:
        UserError: it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); make it again.") from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's contents, as hexadecimal text."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
