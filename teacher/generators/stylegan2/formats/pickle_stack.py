"""Stack and objects of the machine that reads pickles (`pickle_machine`)."""

import struct
from collections.abc import Callable
from typing import Any, Protocol

from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal

_SLACK = 1 << 20  # bytes that the calls of any file may copy, beside a multiple of its length
_PER_BYTE = 16
_PER_ITEM = 32  # what an item of a list costs, in bytes
_LONGEST_KEY = 64  # items of a tuple that is a key


class Buffer(Protocol):
    """Bytes, or a file in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> bytes: ...
    def find(self, sub: bytes, start: int, /) -> int: ...


class Inert:
    """Stands for an object that nobody here knows: its class's or function's name, and nothing else."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Named:
    """Stands for a function or class that a file names.

    Args:
        make: called in its place; none where it is unknown, and its results are `Inert`.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self.name, self.make = name, make

    def __call__(self, *arguments: Any) -> Any:
        return Inert(self.name) if self.make is None else self.make(*arguments)


def as_key(value: Any) -> Any:
    """A value as a key or an item of a set; what could take long to hash becomes an `Inert`."""
    if isinstance(value, str | bytes | int | float | complex | bool | Inert | Named | None):
        return value
    if isinstance(value, tuple) and len(value) <= _LONGEST_KEY:
        return tuple(Inert("key") if isinstance(v, tuple) else as_key(v) for v in value)
    return Inert("key")


def as_dict(pairs: Any = ()) -> dict[Any, Any]:
    """A dictionary from another one or from pairs."""
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return {as_key(key): value for key, value in items}


class Machine:
    """The stack, the memo and the buffer, and what instructions do with them.

    Args:
        find: gives what stands for a module's name: a `Named`, or a constant.
        persistent: gives what stands for data outside of the pickle.

    Attributes:
        position: where the next pickle begins.
    """

    def __init__(
        self,
        buffer: Buffer,
        find: Callable[[str, str], Any],
        persistent: Callable[[Any], Any],
        position: int = 0,
    ) -> None:
        self.buffer, self.find, self.persistent, self.position = buffer, find, persistent, position
        self.budget = _SLACK + _PER_BYTE * len(buffer)
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def read(self, count: int) -> bytes:
        """The next bytes."""
        end = self.position + count
        if count < 0 or end > len(self.buffer):
            raise Damaged("it ends early")
        data = self.buffer[self.position : end]
        self.position = end
        return data

    def number(self, form: str) -> Any:
        """The next number of a fixed length."""
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def counted(self, form: str) -> bytes:
        """Bytes behind their number."""
        return self.read(self.number(form))

    def line(self) -> bytes:
        """Bytes up to the end of the line."""
        end = self.buffer.find(b"\n", self.position)
        if end < 0:
            raise Damaged("it ends early")
        data = self.buffer[self.position : end]
        self.position = end + 1
        return data

    def marked_items(self) -> list[Any]:
        """What lies above the last mark."""
        if not self.marked:
            raise Damaged("a mark is missing")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def name(self, module: Any, name: Any) -> Any:
        """What stands for a name of a module."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise Damaged("a name in it is not a text")
        return self.find(module, name)

    def call(self, function: Any, arguments: Any) -> Any:
        """What a call gives."""
        if not isinstance(arguments, tuple):
            raise Damaged("the arguments of a call are not a tuple")
        if isinstance(function, Inert):
            return Inert(function.name)
        if not isinstance(function, Named):
            raise Damaged("it calls what is no function")
        self.budget -= sum(
            len(a) if isinstance(a, str | bytes) else _PER_ITEM * len(a)
            for a in arguments
            if isinstance(a, str | bytes | list | tuple | dict | set | frozenset)
        )
        if self.budget < 0:
            raise Refusal("its calls ask for far more data than it holds")
        return function(*arguments)

    def build(self, target: Any, state: Any) -> None:
        """Give an object its state."""
        if isinstance(target, Named):
            raise Refusal(f"it tries to change a function ({target.name})")
        if hasattr(target, "set_state"):
            target.set_state(state)
        elif not isinstance(target, Inert | dict):
            raise Damaged("it gives a state to what has none")

    def extend(self, target: Any, items: list[Any]) -> None:
        """Append to a list, or add to a set."""
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(as_key, items))
        elif not isinstance(target, Inert):
            raise Damaged("it appends to what is no list")

    def put(self, target: Any, items: list[Any]) -> None:
        """Set keys of a dictionary, key and value in turns."""
        if isinstance(target, dict):
            target.update(zip(map(as_key, items[::2]), items[1::2], strict=True))
        elif not isinstance(target, Inert) and not hasattr(target, "set_state"):
            raise Damaged("it sets an item of what is no dictionary")
