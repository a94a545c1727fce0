"""Why a checkpoint is not loaded."""


class Refusal(Exception):
    """What a file is, or asks for, that is not read; becomes a UserError that names the file."""


class Damaged(Exception):
    """What in a file contradicts itself; becomes a UserError that calls the file damaged."""
