"""Generator checkpoints that people have -> our architecture and weights.

Read are StyleGAN2 generators as NVIDIA's PyTorch code (stylegan2-ada-pytorch, stylegan3), NVIDIA's
TensorFlow code and rosinality's stylegan2-pytorch write them. All three hold the same tensors under
other names; a `_Naming` says how a format calls ours. Loading is strict: a tensor that is missing or
left over is an error that names it. No code from a file is run.
"""

import argparse
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.seeding import seed_everything
from teacher.generators.stylegan2.formats.safe_pickle import (
    Array,
    LazyTensor,
    Record,
    Refusal,
    read_pickle,
    reading,
)
from teacher.generators.stylegan2.network import Generator, GeneratorConfig

_TORCH_LEGACY = bytes.fromhex(
    "80028a0a6cfc9c46f9206aa85019"
)  # how torch.save began before zip files
_DEPTH = 16  # modules nested deeper than this are no generator


@dataclass(frozen=True)
class Checkpoint:
    """A generator read from a file.

    Args:
        config: its architecture.
        weights: the state of our `Generator`, float32.
        origin: the format, for people.
        notes: what the file lacked and how that was made good.
    """

    config: GeneratorConfig
    weights: dict[str, Tensor]
    origin: str
    notes: list[str]


@dataclass(frozen=True)
class _Naming:
    """How a format names our tensors: places by number, and what belongs to each place."""

    mapping: Callable[[int], str]
    layer: Callable[[int, int], str]  # index, resolution
    noise: Callable[[int, int], str]
    to_rgb: Callable[[int, int], str]
    weight: str
    style_weight: str
    style_bias: str
    strength: str
    layer_bias: str
    rgb_bias: str
    constant: str
    w_mean: str


def _nvidia_layer(k: int, r: int) -> str:
    return f"synthesis.b{r}.conv{(k + 1) % 2 if k else 1}."


_NVIDIA = _Naming(
    mapping=lambda i: f"mapping.fc{i}.",
    layer=_nvidia_layer,
    noise=lambda k, r: f"{_nvidia_layer(k, r)}noise_const",
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
_ROSINALITY = _Naming(
    mapping=lambda i: f"style.{i + 1}.",
    layer=lambda k, r: f"convs.{k - 1}." if k else "conv1.",
    noise=lambda k, r: f"noises.noise_{k}",
    to_rgb=lambda i, r: f"to_rgbs.{i - 1}." if i else "to_rgb1.",
    weight="conv.weight",
    style_weight="conv.modulation.weight",
    style_bias="conv.modulation.bias",
    strength="noise.weight",
    layer_bias="activate.bias",
    rgb_bias="bias",
    constant="input.input",
    w_mean="latent_avg",
)
_TENSORFLOW = _Naming(
    mapping=lambda i: f"mapping/Dense{i}/",
    layer=lambda k, r: f"synthesis/{r}x{r}/{('Conv1', 'Conv0_up')[k % 2] if k else 'Conv'}/",
    noise=lambda k, r: f"synthesis/noise{k}",
    to_rgb=lambda i, r: f"synthesis/{r}x{r}/ToRGB/",
    weight="weight",
    style_weight="mod_weight",
    style_bias="mod_bias",
    strength="noise_strength",
    layer_bias="bias",
    rgb_bias="bias",
    constant="synthesis/4x4/Const/const",
    w_mean="dlatent_avg",
)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a generator of any known format.

    Raises:
        UserError: the file is damaged, hostile, of an unknown format, conditional, or no StyleGAN2.
    """
    with reading(path):
        if zipfile.is_zipfile(path) or _starts_with(path, _TORCH_LEGACY):
            return _read_rosinality(path)
        content = read_pickle(path)
        if isinstance(content, tuple) and any(isinstance(x, Record) for x in content):
            return _read_tensorflow(content)
        return _read_nvidia(content)


def _starts_with(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _read_rosinality(path: Path) -> Checkpoint:
    with torch.serialization.safe_globals([argparse.Namespace]):
        mapped = zipfile.is_zipfile(path)  # other tensors of the file are then never read
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(content, dict) or not isinstance(content.get("g_ema"), dict):
        raise Refusal(f"it has no generator under g_ema{_found(content)}")
    tensors = {k: v for k, v in content["g_ema"].items() if not k.endswith(".kernel")}
    if isinstance(content.get("latent_avg"), Tensor):
        tensors["latent_avg"] = content["latent_avg"]
    return _rename(tensors, _ROSINALITY, "rosinality stylegan2-pytorch")


def _read_nvidia(content: Any) -> Checkpoint:
    network = content.get("G_ema") if isinstance(content, dict) else content
    if not isinstance(network, Record):
        raise Refusal(f"it has no generator under G_ema{_found(content)}")
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
    return _rename(tensors, _NVIDIA, "NVIDIA PyTorch", None if clamp is None else float(clamp))


def _collect(module: Any, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """All parameters and buffers of a pickled torch module by their dotted names."""
    if not isinstance(module, Record) or depth > _DEPTH:
        raise Refusal(f"{prefix or 'its generator'} is not a network")
    found = {}
    for name, tensor in [*module.state["_parameters"].items(), *module.state["_buffers"].items()]:
        if isinstance(tensor, LazyTensor):
            found[f"{prefix}{name}"] = tensor.value()
    for name, child in module.state["_modules"].items():
        found |= _collect(child, f"{prefix}{name}.", depth + 1)
    return found


def _read_tensorflow(content: tuple[Any, ...]) -> Checkpoint:
    network = content[-1]  # G, D and Gs, the moving average of G
    if not isinstance(network, Record) or len(content) != 3:
        raise Refusal("it does not hold the three networks G, D, Gs")
    tensors = {}
    for name, value in _variables(network).items():
        place, _, kind = name.rpartition("/")
        tensor = torch.from_numpy(np.array(value, np.float32))
        if kind in ("weight", "mod_weight"):
            # TensorFlow keeps [height, width, in, out] and [in, out].
            tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
            if place.endswith("Conv0_up") and kind == "weight":
                tensor = tensor.flip(2, 3)  # it convolves where torch correlates
        elif kind == "mod_bias":
            tensor = tensor + 1
        tensors[name] = tensor
    if "synthesis/4x4/Const/const" not in tensors:
        raise Refusal("its generator is not StyleGAN2 (StyleGAN1 and older are not read)")
    if "mapping/LabelConcat/weight" in tensors:
        raise Refusal("its generator is conditional; take an unconditional one")
    tensors.pop("lod", None)
    return _rename(tensors, _TENSORFLOW, "NVIDIA TensorFlow")


def _variables(network: Record, prefix: str = "", depth: int = 0) -> dict[str, np.ndarray]:
    """Variables of a TensorFlow network and of the networks in it."""
    if depth > _DEPTH:
        raise Refusal("its networks are nested without end")
    state: Any = network.state
    found = {}
    for name, value in state["variables"]:
        if not isinstance(value, Array):
            raise Refusal(f"{prefix}{name} is not an array")
        found[f"{prefix}{name}"] = value.value
    for name, component in dict(state["components"]).items():
        found |= _variables(component, f"{prefix}{name}/", depth + 1)
    return found


def _rename(
    tensors: Mapping[str, Tensor], naming: _Naming, origin: str, clamp: float | None = None
) -> Checkpoint:
    """Infer the architecture from the shapes, then give every tensor our name and shape."""
    tensors = dict(tensors)

    def shape(name: str) -> list[int]:
        if name not in tensors:
            raise Refusal(f"the tensor {name} is missing")
        return list(tensors[name].shape)

    depth = 0
    while f"{naming.mapping(depth)}weight" in tensors:
        depth += 1
    style_size, latent_size = shape(f"{naming.mapping(0)}weight")
    channels = [shape(naming.constant)[-3]]
    while (r := 4 * 2 ** len(channels)) and (
        f"{naming.to_rgb(len(channels), r)}{naming.weight}" in tensors
    ):
        channels.append(shape(f"{naming.to_rgb(len(channels), r)}{naming.weight}")[-3])
    style = None if style_size == latent_size else style_size
    config = GeneratorConfig(tuple(channels), latent_size, style, depth, clamp)
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in Generator(config).state_dict().items()}

    ours: dict[str, Tensor] = {}
    for name, theirs in _their_names(config, naming).items():
        if theirs not in tensors and _can_be_made(name, naming):
            continue
        found = tensors.pop(theirs, None)
        if found is None:
            raise Refusal(f"the tensor {theirs} is missing")
        if _squeezed(found.shape) != _squeezed(expected[name]):
            raise Refusal(
                f"{theirs} has the shape {list(found.shape)}, its place asks for "
                f"{list(expected[name])}"
            )
        ours[name] = found.float().reshape(expected[name]).contiguous()
    if tensors:
        raise Refusal(f"the tensor {min(tensors)} has no place in a StyleGAN2 of its kind")
    return Checkpoint(config, ours, origin, _make_good(config, ours))


def _their_names(config: GeneratorConfig, naming: _Naming) -> dict[str, str]:
    """Our tensor's name -> theirs."""
    names = {"constant": naming.constant, "w_mean": naming.w_mean}
    for i in range(config.mapping_layers):
        for kind in ("weight", "bias"):
            names[f"mapping_layers.{i}.{kind}"] = naming.mapping(i) + kind
    for k in range(2 * len(config.channels) - 1):
        r = 2 ** (2 + (k + 1) // 2)
        ours, theirs = f"layers.{k}.", naming.layer(k, r)
        names[f"{ours}conv.weight"] = theirs + naming.weight
        names[f"{ours}conv.affine.weight"] = theirs + naming.style_weight
        names[f"{ours}conv.affine.bias"] = theirs + naming.style_bias
        names[f"{ours}noise_strength"] = theirs + naming.strength
        names[f"{ours}bias"] = theirs + naming.layer_bias
        names[f"{ours}noise"] = naming.noise(k, r)
    for i in range(len(config.channels)):
        ours, theirs = f"to_rgb.{i}.", naming.to_rgb(i, 4 * 2**i)
        names[f"{ours}conv.weight"] = theirs + naming.weight
        names[f"{ours}conv.affine.weight"] = theirs + naming.style_weight
        names[f"{ours}conv.affine.bias"] = theirs + naming.style_bias
        names[f"{ours}bias"] = theirs + naming.rgb_bias
    return names


def _can_be_made(name: str, naming: _Naming) -> bool:
    """Rosinality's files may lack the constant noise and the mean of w; the others never do."""
    return naming is _ROSINALITY and (name == "w_mean" or name.endswith(".noise"))


def _make_good(config: GeneratorConfig, weights: dict[str, Tensor]) -> list[str]:
    """Fill in what rosinality's files may lack, the same at every reading."""
    notes = []
    generator = Generator(config)
    missing = [name for name in generator.state_dict() if name not in weights]
    noise = [name for name in missing if name.endswith(".noise")]
    seed_everything(0)
    for name in noise:
        weights[name] = torch.randn_like(generator.state_dict()[name])
    if noise:
        notes.append("the file holds no constant noise: drawn from seed 0")
    if "w_mean" in missing:
        weights["w_mean"] = torch.zeros(config.w_dim)
        generator.load_state_dict(weights)
        with torch.no_grad():
            weights["w_mean"] = generator.mapping(torch.randn(4096, config.latent_size)).mean(0)
        notes.append("the file holds no mean of w: taken over 4096 mapped latents of seed 0")
    return notes


def _squeezed(shape: tuple[int, ...] | torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _found(content: Any) -> str:
    """What a file holds instead, for the error text."""
    if isinstance(content, dict):
        return f" (it holds {', '.join(sorted(map(str, content))[:6]) or 'nothing'})"
    return f" (it holds a {type(content).__name__})"
