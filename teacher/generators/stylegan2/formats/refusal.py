"""Why a checkpoint is not loaded."""

_LONGEST = 60


class Refusal(Exception):
    """What a file is, or asks for, that is not read; becomes a UserError that names the file."""


class Damaged(Exception):
    """What in a file contradicts itself; becomes a UserError that calls the file damaged."""


def told(value: object) -> str:
    """A value of a file for a sentence: short texts and numbers as they are, anything else by its kind."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    if isinstance(value, float | bool | None) or (isinstance(value, int) and abs(value) < 10**12):
        return str(value)
    return f"a {type(value).__name__}"
