"""Read pickles and files of torch.save without running code from them, and without PyTorch's own reader.

torch.save writes a zip archive or, in older times, a stream. The archive holds the pickle `data.pkl` and
one member for the bytes of every storage. The stream holds three small pickles, the data's, the names of
the storages, and their bytes one after another. A storage is read when a tensor of it is needed.
"""

import mmap
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from teacher.generators.stylegan2.formats.known_names import StorageType, find
from teacher.generators.stylegan2.formats.pickle_machine import PickleMachine
from teacher.generators.stylegan2.formats.pickle_stack import Buffer, Inert, Named
from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal
from teacher.generators.stylegan2.formats.tensors import Storage

STREAM_HEAD = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
_ARCHIVE_HEAD = b"PK\x03\x04"
_SMALL = 1 << 20  # bytes
_MOST_PACKED = 32  # times that a compressed member may grow
_OTHER_KINDS = {  # what people have instead of a pickle, by its beginning
    b"version https://git-lfs": "a pointer of Git LFS instead of the file; fetch that by git lfs pull",
    b"<": "a web page or XML instead of a checkpoint; download it again",
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"PK\x05\x06": "an empty zip archive",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"\x89HDF": "an HDF5 file, as Keras writes them; those of NVIDIA and rosinality are read",
}


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def is_torch_file(path: Path) -> bool:
    """Whether torch.save may have written it."""
    return _head(path).startswith((STREAM_HEAD, _ARCHIVE_HEAD))


def read_pickle(path: Path) -> Any:
    """The data of a pickle: built-in types, `Record`, `Array`, `TensorView`, `Inert`.

    Raises:
        Refusal: it names what runs code; any other exception: it is damaged.
    """
    head = _head(path)
    if not head:
        raise Damaged("it is empty")
    for start, kind in _OTHER_KINDS.items():
        if head.startswith(start):
            raise Refusal(f"it is {kind}")
    if head[8:9] == b"{":
        raise Refusal(
            "it is a safetensors file, which is read only as a part of a generator folder"
        )
    return PickleMachine(_mapped(path), _find_with_streams, _nothing_outside).load()


def read_torch_file(path: Path) -> Any:
    """The data of a file of torch.save, as `read_pickle` gives them.

    Raises:
        Refusal: it names what runs code; any other exception: it is damaged.
    """
    if _head(path).startswith(_ARCHIVE_HEAD):
        return _Archive(path).load()
    return _Stream(_mapped(path), _find_with_streams).load()


def _mapped(path: Path) -> Buffer:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _nothing_outside(_: object) -> Storage:
    raise Refusal("it refers to data outside of it")


def _find_with_streams(module: str, name: str) -> Any:
    """As `find`, where a storage may be a stream within the pickle."""
    if f"{module}.{name}" == "torch.storage._load_from_bytes":
        return Named(f"{module}.{name}", _inner_storage)
    return find(module, name)


def _inner_storage(data: Any) -> Any:
    """A storage that torch.save wrote within another pickle; `Inert` where it is anything else."""
    if not isinstance(data, bytes) or not data.startswith(STREAM_HEAD):
        return Inert("torch.storage")
    found = _Stream(data, find).load()
    return found if isinstance(found, Storage) else Inert("torch.storage")


class _Archive:
    """A zip archive."""

    def __init__(self, path: Path) -> None:
        self.path, self.storages = path, dict[str, Storage]()
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise Damaged("the index of its zip archive cannot be read") from error
        pickles = [name for name in self.members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            what = "a zip archive that torch.save did not write"
            raise Refusal(f"it is {what} (it has no member data.pkl)")
        self.folder = pickles[0].removesuffix("data.pkl")
        if any(name.startswith(f"{self.folder}code/") for name in self.members):
            raise Refusal("it is a TorchScript archive; save the generator's state_dict instead")
        order = self._read(f"{self.folder}byteorder") if self._has("byteorder") else b"little"
        self.swapped = order.decode("ascii", "replace") != sys.byteorder

    def _has(self, name: str) -> bool:
        return f"{self.folder}{name}" in self.members

    def load(self) -> Any:
        return PickleMachine(
            self._read(f"{self.folder}data.pkl"), _find_with_streams, self._storage
        ).load()

    def _storage(self, reference: Any) -> Storage:
        dtype, key, count = _reference(reference)
        if key not in self.storages:
            member = f"{self.folder}data/{key}"
            self.storages[key] = Storage(dtype, count, lambda: self._read(member), self.swapped)
        return self.storages[key]

    def _read(self, member: str) -> bytes:
        info = self.members.get(member)
        if info is None:
            raise Damaged(f"its member {member} is missing")
        most = _SMALL + _MOST_PACKED * info.compress_size  # zeros pack well
        if info.file_size > most or info.flag_bits & 1:
            what = "encrypted" if info.flag_bits & 1 else f"packed {_MOST_PACKED} to 1 or more"
            raise Refusal(f"its member {member} is {what}")
        if info.compress_size > self.path.stat().st_size:
            raise Damaged(f"its member {member} ends early")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(info) as file:
                return file.read(info.file_size + 1)
        except NotImplementedError as error:
            raise Refusal(f"its member {member} is compressed in a way that is not read") from error
        except Exception as error:  # zlib, struct, zipfile: a damaged member can fail in any way
            raise Damaged(f"its member {member} is damaged") from error


class _Stream:
    """The stream that torch.save wrote before it wrote archives, and writes within pickles."""

    def __init__(self, buffer: Buffer, find: Callable[[str, str], Any]) -> None:
        self.machine = PickleMachine(buffer, find, self._storage)
        self.buffer, self.storages, self.places = buffer, dict[str, Storage](), dict[str, int]()
        self.swapped = False

    def load(self) -> Any:
        for _ in range(2):
            self.machine.load()
        about = self.machine.load()
        little = not isinstance(about, dict) or about.get("little_endian", True)
        self.swapped = bool(little) != (sys.byteorder == "little")
        content = self.machine.load()
        keys, position = self.machine.load(), self.machine.position
        for key in keys:
            storage = self.storages.get(str(key)) if isinstance(key, str | int) else None
            if storage is None:
                raise Damaged("it has storages that nothing refers to")
            self.places[str(key)] = position
            position += 8 + storage.count * storage.dtype.itemsize
        return content

    def _storage(self, reference: Any) -> Storage:
        dtype, key, count = _reference(reference)
        if key not in self.storages:
            self.storages[key] = Storage(dtype, count, lambda: self._read(key), self.swapped)
        return self.storages[key]

    def _read(self, key: str) -> bytes:
        place, storage = self.places.get(key), self.storages[key]
        if place is None or place + 8 > len(self.buffer):
            raise Damaged("it ends early")
        order = "<" if self.swapped == (sys.byteorder == "big") else ">"
        (count,) = struct.unpack(f"{order}q", self.buffer[place : place + 8])
        if count != storage.count:
            raise Damaged(f"a storage in it has {count} numbers instead of {storage.count}")
        start = place + 8
        return self.buffer[start : start + count * storage.dtype.itemsize]


def _reference(reference: Any) -> tuple[Any, str, Any]:
    """The dtype, the name and the length of a storage outside of the pickle."""
    match reference:
        case ("storage", StorageType(dtype=dtype), key, _, count):
            pass
        case ("storage", StorageType(dtype=dtype), key, _, count, None):
            pass
        case ("storage", *_):
            raise Refusal("a storage in it is of a kind that is not read")
        case _:
            raise Refusal("it refers to data outside of it")
    if not isinstance(key, str | int):
        raise Damaged("a storage in it has no name")
    return dtype, str(key), count
