"""Errors that a person at the terminal can act on."""


def printable(text: object) -> str:
    """Text as one line that every terminal shows.

    Control characters become escapes, as do the bytes of file names that are not UTF-8.
    """
    return "".join(
        c if c.isprintable() or c in "\u00a0\u3000" else c.encode("unicode_escape").decode()
        for c in str(text)
    )


class UserError(Exception):
    """Bad input: one sentence that names it and the remedy. Printed without a traceback, exit code 2."""

    def __init__(self, text: object) -> None:
        super().__init__(printable(text))
