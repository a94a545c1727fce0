"""Errors that a person at the terminal can act on."""


class UserError(Exception):
    """Bad input: one sentence that names it and the remedy. Printed without a traceback, exit code 2."""
