"""A machine that reads pickles of protocols 0 to 5 and runs nothing from them.

A pickle is a program for a machine with a stack. This one knows every instruction, but a name in the file
stands for what its caller makes of the name, never for a function of a module. What a file may cost is
bounded by its own length: memory of a stated size is never reserved, keys are hashed only where that is
cheap, and data that a call copies count against a budget.
"""

import codecs
from collections.abc import Callable
from typing import Any

from teacher.generators.stylegan2.formats.pickle_stack import Machine, as_key
from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal


def _old_text(data: bytes) -> str:
    """Text of Python 2, whose bytes stand for themselves."""
    return data.decode("latin1")


def _quoted(m: Machine) -> str:
    data = m.line().strip()
    if len(data) < 2 or data[:1] != data[-1:] or data[:1] not in (b'"', b"'"):
        raise Damaged("a text in it has no quotes")
    return _old_text(codecs.escape_decode(data[1:-1])[0])


def _line_number(m: Machine) -> int | bool:
    data = m.line()
    return {b"00": False, b"01": True}[data] if data in (b"00", b"01") else int(data)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _remembered(m: Machine, index: int) -> Any:
    if index not in m.memo:
        raise Damaged(f"it refers to object {index}, which is not there")
    return m.memo[index]


def _taken(m: Machine, count: int) -> tuple[Any, ...]:
    if len(m.stack) < count:
        raise Damaged("its stack is empty")
    items = tuple(m.stack[len(m.stack) - count :])
    del m.stack[len(m.stack) - count :]
    return items


def _new_with_names(m: Machine) -> Any:
    kind, arguments, _ = _taken(m, 3)
    return m.call(kind, arguments)


def _instance(m: Machine) -> Any:
    module, name = m.line().decode("ascii"), m.line().decode("ascii")
    return m.call(m.name(module, name), tuple(m.marked_items()))


def _object(m: Machine) -> Any:
    kind, *arguments = m.marked_items()
    return m.call(kind, tuple(arguments))


def _outside(m: Machine, _: object = None) -> Any:
    raise Refusal("it refers to data outside of it")


_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
_EMPTY: dict[bytes, Callable[[], Any]] = {b"}": dict, b"]": list, b"\x8f": set}
_VALUES: dict[bytes, Callable[[Machine], Any]] = {  # instructions that put a value on the stack
    b"F": lambda m: float(m.line()),
    b"I": _line_number,
    b"J": lambda m: m.number("<i"),
    b"K": lambda m: m.number("<B"),
    b"M": lambda m: m.number("<H"),
    b"L": lambda m: int(m.line().rstrip(b"L")),
    b"\x8a": lambda m: _long(m.counted("<B")),
    b"\x8b": lambda m: _long(m.counted("<i")),
    b"G": lambda m: m.number(">d"),
    b"S": _quoted,
    b"T": lambda m: _old_text(m.counted("<i")),
    b"U": lambda m: _old_text(m.counted("<B")),
    b"V": lambda m: m.line().decode("raw-unicode-escape"),
    b"X": lambda m: _utf8(m.counted("<I")),
    b"\x8c": lambda m: _utf8(m.counted("<B")),
    b"\x8d": lambda m: _utf8(m.counted("<Q")),
    b"B": lambda m: m.counted("<I"),
    b"C": lambda m: m.counted("<B"),
    b"\x8e": lambda m: m.counted("<Q"),
    b"\x96": lambda m: m.counted("<Q"),  # a bytearray; here no one changes it
    b"\x97": _outside,
    b"P": lambda m: m.persistent(m.line().decode("ascii")),
    b"Q": lambda m: m.persistent(m.stack.pop()),
    b"c": lambda m: m.name(_utf8(m.line()), _utf8(m.line())),
    b"\x93": lambda m: m.name(*_taken(m, 2)),
    b"\x82": _outside,  # names by number, of a table that each program has for itself
    b"\x83": _outside,
    b"\x84": _outside,
    b"R": lambda m: m.call(*_taken(m, 2)),
    b"\x81": lambda m: m.call(*_taken(m, 2)),
    b"\x92": _new_with_names,
    b"i": _instance,
    b"o": _object,
    b"g": lambda m: _remembered(m, int(m.line())),
    b"h": lambda m: _remembered(m, m.number("<B")),
    b"j": lambda m: _remembered(m, m.number("<I")),
    b"2": lambda m: m.stack[-1],
    b"t": lambda m: tuple(m.marked_items()),
    b"\x85": lambda m: _taken(m, 1),
    b"\x86": lambda m: _taken(m, 2),
    b"\x87": lambda m: _taken(m, 3),
    b"l": lambda m: m.marked_items(),
    b"d": lambda m: _dict(m.marked_items()),
    b"\x91": lambda m: frozenset(map(as_key, m.marked_items())),
}


def _dict(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(as_key, items[::2]), items[1::2], strict=True))


def _mark(m: Machine) -> None:
    m.marked.append(m.stack)
    m.stack = []


def _memorise(m: Machine, index: int) -> None:
    m.memo[index] = m.stack[-1]


def _build(m: Machine) -> None:
    state = m.stack.pop()
    m.build(m.stack[-1], state)


def _append_one(m: Machine) -> None:
    item = m.stack.pop()
    m.extend(m.stack[-1], [item])


def _append_all(m: Machine) -> None:
    items = m.marked_items()
    m.extend(m.stack[-1], items)


def _set_one(m: Machine) -> None:
    pair = [*_taken(m, 2)]
    m.put(m.stack[-1], pair)


def _set_all(m: Machine) -> None:
    items = m.marked_items()
    m.put(m.stack[-1], items)


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.marked_items()


_ACTIONS: dict[bytes, Callable[[Machine], object]] = {
    b"\x80": lambda m: m.number("<B"),  # the protocol: an instruction means the same in each
    b"\x95": lambda m: m.number("<Q"),  # a frame's length: a hint for readers of files
    b"\x98": lambda m: None,  # makes an outside buffer read-only
    b"(": _mark,
    b"0": _pop,
    b"1": lambda m: m.marked_items(),
    b"a": _append_one,
    b"e": _append_all,
    b"\x90": _append_all,
    b"s": _set_one,
    b"u": _set_all,
    b"b": _build,
    b"p": lambda m: _memorise(m, int(m.line())),
    b"q": lambda m: _memorise(m, m.number("<B")),
    b"r": lambda m: _memorise(m, m.number("<I")),
    b"\x94": lambda m: _memorise(m, len(m.memo)),
}


class PickleMachine(Machine):
    """Reads one pickle after another from a buffer."""

    def load(self) -> Any:
        """The next pickle's data.

        Raises:
            Damaged: it ends early, or is no pickle; any other exception: it contradicts itself.
            Refusal: it tries what no generator needs.
        """
        self.stack, self.marked, self.memo = [], [], {}
        while (code := self.read(1)) != b".":
            if code in _CONSTANTS:
                self.stack.append(_CONSTANTS[code])
            elif code in _EMPTY:
                self.stack.append(_EMPTY[code]())
            elif code in _VALUES:
                value = _VALUES[code](self)  # first: it may exchange the stack
                self.stack.append(value)
            elif code in _ACTIONS:
                _ACTIONS[code](self)
            else:
                raise Damaged(f"byte {self.position - 1} is no instruction of a pickle")
        return self.stack.pop()
