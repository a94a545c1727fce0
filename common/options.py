"""What options may hold beyond plain values."""

import math
import typing
from typing import Any, TypeVar

from common.errors import UserError

_Options = TypeVar("_Options")  # a dataclass


def read_numbers(text: str, option: str) -> list[int]:
    """0-3,8 -> [0, 1, 2, 3, 8].

    Raises:
        UserError: the text is no such list; it names the option.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"{option} {text} is not a list of numbers such as 0-3,8.")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers:
        raise UserError(f"{option} {text} names no number.")
    return numbers


def require_counts(options: str, config: Any, *names: str) -> None:
    """Check that fields of a config are counts.

    Args:
        options: what stands before the names on the command line, as in `teacher`.

    Raises:
        UserError: one of them is below 1.
    """
    for name in names:
        if (value := getattr(config, name)) < 1:
            raise UserError(f"{options}.{name} is {value}; it is a count, 1 at least.")


def read_options(
    kind: type[_Options], values: dict[str, Any], source: object, remedy: str
) -> _Options:
    """A dataclass of options from what JSON holds of it.

    Args:
        source: the file, for the error text.

    Raises:
        UserError: a value is of another type, or its name is unknown; says the remedy.
    """
    kinds = typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in kinds or not _fits(value, kinds[name]):
            raise UserError(f"{source} has no {name} that is used here; {remedy}.")
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**plain)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a type of an option."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is typing.Literal:
        return value in arguments and isinstance(value, str)
    if arguments:  # of a union
        return any(_fits(value, one) for one in arguments)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind
