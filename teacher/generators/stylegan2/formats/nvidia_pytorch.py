"""Pickles of NVIDIA's PyTorch code (stylegan2-ada-pytorch, stylegan3): a tree of modules, `G_ema`."""

import re
from typing import Any

from torch import Tensor

from teacher.generators.stylegan2.formats.base import (
    MAX_DEPTH,
    Checkpoint,
    CheckpointFile,
    Naming,
    rename,
)
from teacher.generators.stylegan2.formats.safe_pickle import LazyTensor, Record, Refusal


def _layer(k: int, r: int) -> str:
    return f"synthesis.b{r}.conv{(k + 1) % 2 if k else 1}."


_NAMING = Naming(
    mapping=lambda i: f"mapping.fc{i}.",
    layer=_layer,
    noise=lambda k, r: f"{_layer(k, r)}noise_const",
    to_rgb=lambda i, r: f"synthesis.b{r}.torgb.",
    weight="weight",
    style_weight="affine.weight",
    style_bias="affine.bias",
    strength="noise_strength",
    layer_bias="bias",
    rgb_bias="bias",
    constant="synthesis.b4.const",
    w_mean="mapping.w_avg",
)


def claims(file: CheckpointFile) -> bool:
    """Whether it is a pickle with a network under `G_ema`, or of a network alone."""
    return not file.is_torch and isinstance(_network(file.content), Record)


def _network(content: Any) -> Any:
    return content.get("G_ema") if isinstance(content, dict) else content


def read(file: CheckpointFile) -> Checkpoint:
    """Read the generator's modules.

    Raises:
        Refusal: the generator is conditional, not StyleGAN2, or its blocks have no skips to RGB.
    """
    network = _network(file.content)
    state = network.state
    if state.get("c_dim"):
        raise Refusal(
            f"its generator is conditional ({state['c_dim']} classes); take an unconditional one"
        )
    synthesis = state["_modules"].get("synthesis")
    blocks = synthesis.state["_modules"] if isinstance(synthesis, Record) else {}
    if "b4" not in blocks:
        what = "StyleGAN3" if any(re.match(r"L\d+_", name) for name in blocks) else "another kind"
        raise Refusal(f"its generator is {what}; convert reads StyleGAN2")
    architecture = {b.state.get("architecture", "skip") for b in blocks.values()}
    if architecture != {"skip"}:
        raise Refusal(f"its generator has {architecture} blocks; convert reads those with skips")
    tensors = _collect(network)
    tensors = {k: v for k, v in tensors.items() if not k.endswith("resample_filter")}
    layer = blocks["b4"].state["_modules"]["conv1"].state
    clamp = layer.get("conv_clamp")
    return rename(tensors, _NAMING, "NVIDIA PyTorch", None if clamp is None else float(clamp))


def _collect(module: Any, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """All parameters and buffers of a pickled torch module by their dotted names."""
    if not isinstance(module, Record) or depth > MAX_DEPTH:
        raise Refusal(f"{prefix or 'its generator'} is not a network")
    found = {}
    for name, tensor in [*module.state["_parameters"].items(), *module.state["_buffers"].items()]:
        if isinstance(tensor, LazyTensor):
            found[f"{prefix}{name}"] = tensor.value()
    for name, child in module.state["_modules"].items():
        found |= _collect(child, f"{prefix}{name}.", depth + 1)
    return found
