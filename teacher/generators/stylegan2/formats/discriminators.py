"""The discriminator that a file of a training has beside its generators: NVIDIA's `D`, rosinality's `d`.

Both are the residual network of `stylegan2/discriminator.py` under other names.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from teacher.generators.stylegan2.architecture import DEFAULT_FILTER
from teacher.generators.stylegan2.discriminator import GROUP, Discriminator
from teacher.generators.stylegan2.formats.known_names import Record
from teacher.generators.stylegan2.formats.nvidia_pytorch import collect
from teacher.generators.stylegan2.formats.refusal import Refusal, told
from teacher.generators.stylegan2.formats.settings import filter_of_tensors, number, require
from teacher.generators.stylegan2.formats.state_dicts import is_tensor
from teacher.generators.stylegan2.formats.tensors import Lazy

_WHOSE = "its discriminator"
_KINDS = ("weight", "bias")


class Found(NamedTuple):
    """A discriminator of a file.

    Args:
        weights: the state of our `Discriminator`, float32.
        notes: what was read otherwise than it stands there.
    """

    weights: dict[str, Tensor]
    notes: list[str]


def read_discriminator(content: Any, channels: tuple[int, ...]) -> Found | None:
    """The discriminator in the content of a file; none where it has none.

    Args:
        channels: width at 4, 8, 16, ... pixels, as of the generator beside it.

    Raises:
        Refusal: it is of another kind, or a tensor is missing, left over, of the wrong shape or not finite.
    """
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("D"), Record):
        modules: dict[str, dict[Any, Any]] = {}
        tensors: dict[str, Lazy] = {}
        collect(content["D"], "", 0, modules, tensors)
        kept = _without_filters(tensors, "resample_filter")
        notes = [*_check_settings(modules, kept)]
        return Found(_renamed(kept, channels, _nvidia_names(len(channels))), notes)
    if isinstance(content.get("d"), dict):
        state = {
            name.removeprefix("module."): tensor
            for name, tensor in content["d"].items()
            if isinstance(name, str) and is_tensor(tensor)
        }
        kept = _without_filters(state, ".kernel")
        return Found(_renamed(kept, channels, _rosinality_names(len(channels))), [])
    return None


def _without_filters(tensors: Mapping[str, Lazy], ending: str) -> dict[str, Lazy]:
    """The tensors but the low-pass filters, which must be the usual ones."""
    filters = {name: tensor for name, tensor in tensors.items() if name.endswith(ending)}
    require(_WHOSE, "the low-pass filter", filter_of_tensors(filters, 1.0), DEFAULT_FILTER)
    return {name: tensor for name, tensor in tensors.items() if name not in filters}


def _check_settings(
    modules: Mapping[str, dict[Any, Any]], tensors: Mapping[str, Lazy]
) -> Iterator[str]:
    """Refuse what our discriminator does not do; say what it does otherwise and will unlearn."""
    limits = set()
    for place, state in modules.items():
        where = f"{_WHOSE}'s {place}"
        require(where, "the architecture", state.get("architecture", "resnet"), "resnet")
        straight = place.endswith((".skip", ".out")) or "activation" not in state
        wanted, gain = ("linear", 1.0) if straight else ("lrelu", math.sqrt(2))
        require(where, "the activation", state.get("activation", "linear"), wanted)
        require(where, "the gain", number(state, "act_gain", where, gain), gain)
        if (weight := tensors.get(f"{place}.weight")) is not None:
            usual = 1 / math.sqrt(max(1, math.prod(weight.shape[1:])))
            require(where, "weight_gain", number(state, "weight_gain", where, usual), usual)
        if (group := state.get("group_size", GROUP)) != GROUP:
            yield f"its discriminator compares {told(group)} images with each other, ours {GROUP}"
        if state.get("conv_clamp") is not None:
            limits.add(number(state, "conv_clamp", where, 0.0))
    if limits:
        told_limits = " and ".join(f"{limit:g}" for limit in sorted(limits))
        yield f"its discriminator limits activations to {told_limits}, ours does not"


def _nvidia_names(levels: int) -> dict[str, str]:
    """Our tensor's name -> theirs."""
    side = 4 << (levels - 1)
    places = {
        "from_rgb": f"b{side}.fromrgb",
        "last": "b4.conv",
        "hidden": "b4.fc",
        "logit": "b4.out",
    }
    for i in range(levels - 1):
        block = f"b{side >> i}"
        places |= {
            f"blocks.{i}.first": f"{block}.conv0",
            f"blocks.{i}.second": f"{block}.conv1",
            f"blocks.{i}.skip": f"{block}.skip",
        }
    return {f"{ours}.{k}": f"{theirs}.{k}" for ours, theirs in places.items() for k in _KINDS}


def _rosinality_names(levels: int) -> dict[str, str]:
    """Our tensor's name -> theirs: a filter, a convolution and the bias are modules of their own."""
    places = {"from_rgb": ("convs.0", 0), "last": ("final_conv", 0)}
    for i in range(levels - 1):
        block = f"convs.{i + 1}"
        places |= {
            f"blocks.{i}.first": (f"{block}.conv1", 0),
            f"blocks.{i}.second": (f"{block}.conv2", 1),
            f"blocks.{i}.skip": (f"{block}.skip", 1),
        }
    names = {f"{ours}.weight": f"{theirs}.{n}.weight" for ours, (theirs, n) in places.items()}
    names |= {f"{ours}.bias": f"{theirs}.{n + 1}.bias" for ours, (theirs, n) in places.items()}
    linear = ("hidden", "logit")
    return names | {
        f"{o}.{k}": f"final_linear.{i}.{k}" for i, o in enumerate(linear) for k in _KINDS
    }


def _renamed(
    tensors: Mapping[str, Lazy], channels: tuple[int, ...], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Every tensor by our name."""
    left, weights = dict(tensors), {}
    with torch.device("meta"):
        expected = {n: tuple(t.shape) for n, t in Discriminator(channels).state_dict().items()}
    for name, shape in expected.items():
        where = f"{_WHOSE}'s {names[name]}"
        tensor = left.pop(names[name], None)
        if tensor is None:
            raise Refusal(f"{where} is missing")
        if tuple(tensor.shape) != shape:
            raise Refusal(
                f"{where} has the shape {list(tensor.shape)}, beside its generator {list(shape)} is needed"
            )
        value = tensor.value().float()
        if not value.isfinite().all():
            raise Refusal(f"{where} holds values that are no finite numbers")
        weights[name] = value.contiguous()
    if left:
        raise Refusal(f"{_WHOSE}'s {told(min(left))} has no place in a StyleGAN2")
    return weights
