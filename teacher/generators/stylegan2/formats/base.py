"""What all checkpoint formats share: the file while it is read, and how its errors are told."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from common.errors import UserError
from teacher.generators.stylegan2.architecture import ArchitectureError
from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal
from teacher.generators.stylegan2.formats.renaming import Checkpoint, Naming, Settings, rename
from teacher.generators.stylegan2.formats.safe_pickle import (
    is_torch_file,
    read_pickle,
    read_torch_file,
)

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "CheckpointFormat",
    "Naming",
    "Settings",
    "plain",
    "reading",
    "rename",
]

_LONGEST_REASON = 400


class CheckpointFile:
    """A file while its format is looked for: its content is read at most once.

    Attributes:
        failure: why the content could not be read; none where it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: Exception | None = None

    @cached_property
    def is_torch(self) -> bool:
        """Whether torch.save may have written it: a zip file, or the older stream."""
        return is_torch_file(self.path)

    @cached_property
    def content(self) -> Any:
        """The data of a torch file or of a pickle (see `safe_pickle`).

        None where it cannot be read so: the file may still be of a format that is neither.
        """
        try:
            return read_torch_file(self.path) if self.is_torch else read_pickle(self.path)
        except Exception as error:  # a damaged file can fail in any way
            self.failure = error
            return None

    def without(self, names: Collection[str]) -> "CheckpointFile":
        """The same file as if its content lacked what lies under these names."""
        other = CheckpointFile(self.path)
        other.content = self.content
        if isinstance(self.content, dict):
            other.content = {k: v for k, v in self.content.items() if k not in names}
        return other


class CheckpointFormat(Protocol):
    """A format; a module with these two functions is one."""

    def claims(self, file: CheckpointFile) -> bool:
        """Whether the file is of this format. Looks at the kind of its content only."""

    def read(self, file: CheckpointFile) -> Checkpoint:
        """Read a file that is claimed.

        Raises:
            Refusal: it is not a generator that our architecture can be; any other exception: it is damaged.
        """


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any exception inside into one sentence that names the file.

    Raises:
        UserError: the file cannot be read, is damaged, or is refused.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or 'damaged'}).") from error
    except (Refusal, ArchitectureError) as error:
        raise UserError(f"{path} is not loaded: {plain(str(error))}.") from error
    except (
        Exception
    ) as error:  # a damaged file can fail in any way, and other libraries' texts mislead
        reason = str(error) if isinstance(error, Damaged) else "its data contradict each other"
        raise UserError(
            f"{path} is damaged or holds no generator ({plain(reason)}); copy or download it again."
        ) from error


def plain(text: str) -> str:
    """A text with names from a file as one line for the terminal: no control characters, not too long."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
