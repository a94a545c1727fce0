"""Errors that a person at the terminal can act on."""


def printable(text: object) -> str:
    """Text as one line that every terminal shows.

    Control characters become escapes, as do the bytes of file names that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def brief(error: object) -> str:
    """What an error of a library says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class UserError(Exception):
    """Bad input: one sentence that names it and the remedy. Printed without a traceback, exit code 2."""

    def __str__(self) -> str:
        return printable(super().__str__())
