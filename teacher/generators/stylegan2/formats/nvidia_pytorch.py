"""Pickles of NVIDIA's PyTorch code (stylegan2-ada-pytorch, stylegan3): a tree of modules, `G_ema`.

What a module draws is decided by its tensors and by plain settings beside them: gains, activation, filter,
limits. Those of linear maps are worked into the weights; the others become part of the architecture, or the
file is refused.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from teacher.generators.stylegan2.architecture import MAPPING_RATE
from teacher.generators.stylegan2.formats.base import (
    Checkpoint,
    CheckpointFile,
    Naming,
    Settings,
    rename,
)
from teacher.generators.stylegan2.formats.known_names import Record
from teacher.generators.stylegan2.formats.refusal import Refusal, told
from teacher.generators.stylegan2.formats.settings import (
    activation,
    filter_of_tensors,
    limit,
    number,
    require,
    require_classes,
)
from teacher.generators.stylegan2.formats.tensors import Lazy, MetaTensor, TensorView, scaled

_NETWORKS = ("G_ema", "G")  # where the generator is, the moving average first
_DEEPEST, _MOST_MODULES = 16, 2000
_GAINS = {"lrelu": math.sqrt(2), "relu": math.sqrt(2), "linear": 1.0}


def layer_name(k: int, r: int) -> str:
    """Prefix of feature layer k."""
    return f"synthesis.b{r}.conv{(k + 1) % 2 if k else 1}."


NAMING = Naming(
    mapping=lambda i: f"mapping.fc{i}.",
    layer=layer_name,
    noise=lambda k, r: f"{layer_name(k, r)}noise_const",
    to_rgb=lambda i, r: f"synthesis.b{r}.torgb.",
    weight="weight",
    style_weight="affine.weight",
    style_bias="affine.bias",
    strength="noise_strength",
    layer_bias="bias",
    rgb_bias="bias",
    constant="synthesis.b4.const",
    w_mean="mapping.w_avg",
    label="mapping.embed.",
)

Modules = dict[str, dict[Any, Any]]  # by dotted name, the state of each module
Tensors = dict[str, Lazy]
Filter = tuple[float, ...]


def claims(file: CheckpointFile) -> bool:
    """Whether it has a pickled network under `G_ema` or `G`, or is a pickle of a network alone."""
    network, _ = _network(file.content)
    return isinstance(network, Record) and "_modules" in _state(network)


def _network(content: Any) -> tuple[Any, str]:
    """The generator and its name in the file."""
    if not isinstance(content, dict):
        return content, ""
    return next(
        ((content[n], n) for n in _NETWORKS if isinstance(content.get(n), Record)), (None, "")
    )


def _state(record: Record) -> dict[Any, Any]:
    return record.state if isinstance(record.state, dict) else {}


def read(file: CheckpointFile) -> Checkpoint:
    """Read the generator's modules.

    Raises:
        Refusal: the generator is not StyleGAN2, or has a setting that our network does not have.
    """
    network, name = _network(file.content)
    modules, tensors = Modules(), Tensors()
    collect(network, "", 0, modules, tensors)
    _require_kind(modules)
    notes = ["it has no moving average G_ema: G is taken"] if name == "G" else []
    require_classes(_state(network).get("c_dim", 0), "mapping.embed.weight", tensors)
    settings = _settings(modules, tensors, notes)
    filters = [name for name in tensors if name.endswith("resample_filter")]
    kept = {name: tensor for name, tensor in tensors.items() if name not in filters}
    return rename(_with_gains(modules, kept), NAMING, "NVIDIA PyTorch", settings)


def collect(module: Any, prefix: str, depth: int, modules: Modules, tensors: Tensors) -> None:
    """Gather the states and tensors of a pickled module and of those in it, by their dotted names."""
    if not isinstance(module, Record) or depth > _DEEPEST or len(modules) > _MOST_MODULES:
        raise Refusal(f"{prefix.rstrip('.') or 'its generator'} is not a network")
    modules[prefix.rstrip(".")] = _state(module)
    for part in ("_parameters", "_buffers"):
        for name, tensor in module.part(part).items():
            if isinstance(tensor, TensorView | MetaTensor) and isinstance(name, str):
                tensors[f"{prefix}{name}"] = tensor
            elif tensor is not None:
                raise Refusal(f"{prefix}{told(name)} is not a tensor")
    for name, child in module.part("_modules").items():
        if child is not None:
            collect(child, f"{prefix}{told(name)}.", depth + 1, modules, tensors)


def _require_kind(modules: Mapping[str, Any]) -> None:
    """Refuse other networks than StyleGAN2 with skips to RGB."""
    layers = [name for name in modules if re.match(r"synthesis\.L\d+_", name)]
    if layers:
        radial = any(modules[name].get("use_radial_filters") for name in layers)
        kind = "StyleGAN3-R" if radial else "StyleGAN3-T"
        raise Refusal(f"its generator is {kind}; StyleGAN2 is read")
    if "synthesis.b4" not in modules:
        raise Refusal("its generator is of another kind than StyleGAN2 (it has no synthesis.b4)")
    for name, state in modules.items():
        if re.fullmatch(r"synthesis\.b\d+", name):
            architecture = state.get("architecture", "skip")
            if architecture != "skip":
                raise Refusal(
                    f"its generator has the architecture {told(architecture)}; read is skip, where every "
                    "resolution adds to the image"
                )


def _settings(modules: Modules, tensors: Tensors, notes: list[str]) -> Settings:
    layers = [*_layers(modules, r"conv[01]")]
    rgb = [*_layers(modules, "torgb")]
    function = activation((name, state.get("activation", "lrelu")) for name, state in layers)
    mapping = [(n, s) for n, s in modules.items() if re.fullmatch(r"mapping\.fc\d+", n)]
    for name, state in layers:
        gain = number(state, "act_gain", name, _GAINS[function])
        require(name, "the gain of its activation", gain, _GAINS[function])
        require(name, "up", state.get("up", 2 if name.endswith("conv0") else 1),
                2 if name.endswith("conv0") else 1)  # fmt: skip
        require(name, "padding", state.get("padding", 1), 1)
    about = modules.get("mapping", {})
    require("mapping", "num_layers", about.get("num_layers", len(mapping)), len(mapping))
    with_noise = {bool(state.get("use_noise", True)) for _, state in layers}
    if len(with_noise) > 1:
        raise Refusal("some of its layers have noise inputs and some have none")
    clamps = tuple(limit(state, name) for name, state in [*layers, *rgb])
    of_layers, of_images = filters_of(tensors)
    average = "mapping.w_avg" in tensors
    return Settings(
        filter=of_layers,
        image_filter=of_images,
        activation=function,
        mapping_activation=activation((n, s.get("activation", "lrelu")) for n, s in mapping),
        noise=with_noise != {False},
        mean_known=average or about.get("w_avg_beta", 0.0) is not None,
        clamps=clamps if any(c is not None for c in clamps) else None,
        notes=notes,
    )


def filters_of(tensors: Mapping[str, Lazy]) -> tuple[Filter, Filter]:
    """The low-pass filters in use: of the layers conv0, and of the blocks from 8 px on."""
    layers = {k: v for k, v in tensors.items() if k.endswith(".conv0.resample_filter")}
    blocks = {
        k: v
        for k, v in tensors.items()
        if re.fullmatch(r"synthesis\.b\d+\.resample_filter", k) and ".b4." not in k
    }
    of_layers = filter_of_tensors(layers, 1.0)
    return of_layers, filter_of_tensors(blocks, 1.0) if blocks else of_layers


def _layers(modules: Modules, kind: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Modules of a kind in the order of our layers."""
    found = [
        (m, name) for name in modules if (m := re.fullmatch(rf"synthesis\.b(\d+)\.({kind})", name))
    ]
    for _, name in sorted(found, key=lambda pair: (int(pair[0][1]), pair[0][2])):
        yield name, modules[name]


def _with_gains(modules: Modules, tensors: Tensors) -> Tensors:
    """The tensors, with gains that are not those of our layers worked in."""
    made = dict(tensors)
    for place, state in modules.items():
        weight = f"{place}.weight"
        if weight not in made or len(made[weight].shape) < 2:
            continue
        inputs = math.prod(made[weight].shape[1:])
        in_mapping = re.fullmatch(r"mapping\.fc\d+", place) is not None
        linear = in_mapping or place.endswith((".affine", ".embed"))
        if not linear and not place.endswith(".torgb"):
            continue  # the weights of feature layers are normalised by demodulation
        rate = MAPPING_RATE if in_mapping else 1.0
        usual = rate / math.sqrt(inputs)
        gain = number(state, "weight_gain", place, usual)
        made[weight] = scaled(made[weight], gain / usual)
        if linear and f"{place}.bias" in made:
            gain = number(state, "bias_gain", place, rate)
            made[f"{place}.bias"] = scaled(made[f"{place}.bias"], gain / rate)
            if not in_mapping:
                require(place, "the activation", state.get("activation", "linear"), "linear")
    return made
