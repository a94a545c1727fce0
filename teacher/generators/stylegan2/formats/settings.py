"""Settings of a checkpoint that are no tensors, read so that what our network does not do is refused."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from teacher.generators.stylegan2.architecture import ACTIVATIONS, DEFAULT_FILTER, MAX_TAPS
from teacher.generators.stylegan2.formats.refusal import Refusal, told
from teacher.generators.stylegan2.formats.tensors import Lazy

_CLOSE = 1e-4
_MOST_WIDE = 2 * MAX_TAPS


def number(values: Mapping[Any, Any], name: str, where: str, usual: float) -> float:
    """A number of a dictionary of settings; the usual one where it is not there.

    Raises:
        Refusal: it is no finite number.
    """
    value = values.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"{where}: {name} is not a number")
    return float(value)


def limit(values: Mapping[Any, Any], where: str) -> float | None:
    """The limit of a layer's activations."""
    if values.get("conv_clamp") is None:
        return None
    found = number(values, "conv_clamp", where, 0.0)
    if found <= 0:
        raise Refusal(f"{where}: conv_clamp is {found:g}, not above 0")
    return found


def activation(found: Iterable[tuple[str, Any]]) -> str:
    """The one activation of layers, given with their names.

    Raises:
        Refusal: they have different ones, or one that our network does not have.
    """
    first: str | None = None
    for where, name in found:
        if name not in ACTIVATIONS:
            raise Refusal(
                f"{where} has the activation {told(name)}; read are {', '.join(ACTIVATIONS)}"
            )
        if first is not None and name != first:
            raise Refusal(f"{where} has the activation {name}, another layer {first}")
        first = str(name)
    return first or "lrelu"


def require(where: str, what: str, found: object, wanted: object) -> None:
    """Refuse a setting that is not what our network does."""
    same = (
        abs(found - wanted) < _CLOSE
        if isinstance(found, int | float) and isinstance(wanted, int | float)
        else found == wanted
    )
    if not same:
        raise Refusal(f"{where} has {what} {told(found)}; only {wanted} is read")


def require_classes(count: object, name: str, tensors: Mapping[str, Any]) -> None:
    """Refuse a generator that says it is conditional and has no embedding of classes, or the other way."""
    if bool(count) != (name in tensors):
        is_there = "is there" if name in tensors else "is missing"
        raise Refusal(f"its settings say {told(count)} classes, and the tensor {name} {is_there}")


def filter_of_taps(taps: object, where: str) -> tuple[float, ...]:
    """A low-pass filter that is given by its taps in one direction, or in both.

    Raises:
        Refusal: it is no filter, or not the same in both directions.
    """
    if taps is None:  # TensorFlow's code takes the nearest pixels then
        return (0.5, 0.5)
    values = taps.tolist() if hasattr(taps, "tolist") else taps
    rows = (
        values if isinstance(values, Sequence) and not isinstance(values, str | bytes) else [values]
    )
    if len(rows) > _MOST_WIDE or not rows:
        raise Refusal(
            f"{where}: the low-pass filter has {len(rows)} taps; read are 1 to {MAX_TAPS}"
        )
    if all(isinstance(row, Sequence) and len(row) == len(rows) for row in rows):
        return _taps_of_square(rows, where)
    numbers: list[Any] = [*rows]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers):
        raise Refusal(f"{where}: the low-pass filter is not a row of numbers")
    return _named([float(v) for v in numbers], where)


def filter_of_tensors(tensors: Mapping[str, Tensor | Lazy], total: float) -> tuple[float, ...]:
    """The low-pass filter that all these buffers hold.

    Args:
        tensors: by name, [n] or [n, n].
        total: what a filter's taps sum to in this format.

    Raises:
        Refusal: they differ, sum to something else, or are not the same in both directions.
    """
    first: tuple[float, ...] | None = None
    for name, tensor in tensors.items():
        if max((len(tensor.shape), *tensor.shape)) > _MOST_WIDE or len(tensor.shape) > 2:
            raise Refusal(f"{name} has the shape {list(tensor.shape)}, which is no low-pass filter")
        value = (tensor if isinstance(tensor, Tensor) else tensor.value()).double()
        if not value.isfinite().all():
            raise Refusal(f"the tensor {name} holds values that are no finite numbers")
        if abs(float(value.sum()) - total) > _CLOSE * total:
            raise Refusal(f"the taps of {name} sum to {float(value.sum()):g}, not to {total:g}")
        found = filter_of_taps((value / value.sum()).tolist(), name)
        if first is not None and not _alike(found, first):
            raise Refusal(f"{name} is another low-pass filter than the other layers have")
        first = found
    return first or DEFAULT_FILTER


def _taps_of_square(rows: Sequence[Any], where: str) -> tuple[float, ...]:
    if not all(isinstance(v, int | float) and math.isfinite(v) for row in rows for v in row):
        raise Refusal(f"{where}: the low-pass filter is not of numbers")
    total = sum(map(sum, rows))
    if not total:
        raise Refusal(f"{where}: the taps of the low-pass filter sum to zero")
    taps = [sum(row) / total for row in rows]
    product = [[a * b * total for b in taps] for a in taps]
    most = max(abs(v) for row in rows for v in row)
    pairs = zip(rows, product, strict=True)
    if any(
        abs(a - b) > _CLOSE * most for row, made in pairs for a, b in zip(row, made, strict=True)
    ):
        raise Refusal(f"{where}: the low-pass filter is not the same along both sides")
    return _named(taps, where)


def _named(taps: Sequence[float], where: str) -> tuple[float, ...]:
    """The taps, summing to one; the usual filter in its usual words."""
    total = sum(taps)
    if not 1 <= len(taps) <= MAX_TAPS:
        raise Refusal(
            f"{where}: the low-pass filter has {len(taps)} taps; read are 1 to {MAX_TAPS}"
        )
    if abs(total) < 1e-3 * max(map(abs, taps)) or not total:
        raise Refusal(f"{where}: the taps of the low-pass filter sum to zero")
    found = tuple(float(tap / total) for tap in taps)
    usual = tuple(tap / sum(DEFAULT_FILTER) for tap in DEFAULT_FILTER)
    return DEFAULT_FILTER if _alike(found, usual) else found


def _alike(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(
        abs(x - y) < 1e-6 * max(1.0, abs(x)) for x, y in zip(a, b, strict=True)
    )
