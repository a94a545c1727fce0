"""Several items of a data set at once."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset


def fetch(source: Dataset[Any], indices: Sequence[int]) -> list[Any]:
    """The items of these indices, by one call of `__getitems__` where the data set has it."""
    if hasattr(source, "__getitems__"):
        return list(source.__getitems__(list(indices)))
    return [source[index] for index in indices]
