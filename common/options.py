"""What options may hold beyond plain values."""

from typing import Any

from common.errors import UserError


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
