"""Files in folders and in zip files, read whole.

Imports nothing beyond the standard library: `student/predict` runs where there is no PyTorch.
"""

import zipfile
import zlib
from importlib.resources.abc import Traversable

from common.errors import UserError, brief

LARGEST = 1 << 30  # most bytes of a file that is read whole; a zip bomb unpacks to more


def why_unreadable(error: Exception) -> str:
    """What an error of opening or unpacking a file means, with the remedy, as the end of a sentence."""
    if isinstance(error, NotImplementedError):
        return (
            "is packed by a method that is not read here, such as Deflate64; pack the zip file again with "
            "the method Deflate"
        )
    if isinstance(error, RuntimeError) and "password" in str(error):
        return "is encrypted; unpack the zip file with its password first"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
        return f"is damaged in its zip file ({brief(error)}); make the zip file again"
    return f"cannot be read ({brief(error)}); copy it again"


def read_file(file: Traversable) -> bytes:
    """The content of a file in a folder or, as a `zipfile.Path`, in a zip file.

    Raises:
        UserError: it cannot be read, or is larger than 1 GiB.
    """
    try:
        with file.open("rb") as handle:
            content = handle.read(LARGEST + 1)
    except Exception as error:  # zipfile and its decompressors raise anything on damaged files
        raise UserError(f"{file} {why_unreadable(error)}.") from error
    if len(content) > LARGEST:
        raise UserError(f"{file} is larger than 1 GiB, which no image or annotation is.")
    return content


def read_text(file: Traversable) -> str:
    """The text of a file in UTF-8, with a byte order mark or without; or in UTF-16 with one.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    return decode_text(read_file(file), file)


def decode_text(content: bytes, source: object) -> str:
    """The text of bytes as `read_text` reads it.

    Raises:
        UserError: it is in another encoding; the text names `source`.
    """
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{source} is in another encoding than UTF-8 (byte 0x{content[error.start]:02x} in line "
            f"{line}); save it as UTF-8."
        ) from error
