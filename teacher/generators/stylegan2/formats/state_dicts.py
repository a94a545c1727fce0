"""Where a state dict of a generator is in a file of torch.save."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from teacher.generators.stylegan2.formats.refusal import Refusal
from teacher.generators.stylegan2.formats.tensors import Array, Lazy, MetaTensor, TensorView

# Where people keep it, the moving average first.
_PLACES = ("g_ema", "G_ema", "ema", "generator_ema", "g", "G", "generator", "state_dict", "model")
AVERAGES = ("g_ema", "G_ema", "ema", "generator_ema")


class Found(NamedTuple):
    """A generator's state dict.

    Args:
        tensors: by name, without what stood before all names.
        beside: all else that lies beside it.
        notes: what people should know of the choice.
    """

    tensors: dict[str, Lazy]
    beside: Mapping[Any, Any]
    notes: list[str]


def find_state(content: Any, marker: str) -> Found | None:
    """The first state dict of a file that has a tensor named so, whatever stands before the name.

    Args:
        marker: name of a tensor that every generator of the format has.

    Raises:
        Refusal: two generators are there and none is the moving average.
    """
    if not isinstance(content, dict):
        return None
    for place, candidate in _candidates(content):
        heads = sorted({head for name in candidate if (head := _head(name, marker)) is not None})
        if heads:
            head = _choose(heads)
            tensors = {
                name.removeprefix(head): tensor
                for name, tensor in candidate.items()
                if isinstance(name, str) and name.startswith(head) and is_tensor(tensor)
            }
            notes = [] if place in ("", "state_dict") or place in AVERAGES else [_no_average(place)]
            return Found(tensors, {**candidate, **content}, notes)
    return None


def _candidates(content: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    for place in _PLACES:
        part = content.get(place)
        if isinstance(part, dict):
            yield place, part
            if isinstance(part.get("state_dict"), dict):
                yield place, part["state_dict"]
    yield "", content


def _head(name: object, marker: str) -> str | None:
    """What stands before a name that ends so."""
    if not isinstance(name, str) or not name.endswith(marker):
        return None
    head = name.removesuffix(marker)
    return head if not head or head.endswith(".") else None


def _choose(heads: list[str]) -> str:
    if len(heads) == 1:
        return heads[0]
    averages = [head for head in heads if "ema" in head]
    if len(averages) == 1:
        return averages[0]
    raise Refusal(
        f"it has {len(heads)} generators ({', '.join(heads[:3])}); save one of them alone"
    )


def _no_average(place: str) -> str:
    return f"it has no moving average: {place} is taken"


def is_tensor(value: object) -> bool:
    """Whether it is a tensor or an array of a file."""
    return isinstance(value, TensorView | MetaTensor | Array)
