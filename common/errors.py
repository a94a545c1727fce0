"""Errors that a person at the terminal can act on."""

from typing import Any


class UserError(Exception):
    """Bad input: one sentence that names it and the remedy. Printed without a traceback, exit code 2."""


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
