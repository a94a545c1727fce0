"""Pickles of NVIDIA's TensorFlow code (stylegan2, stylegan2-ada): the networks G, D, Gs, or Gs alone."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from teacher.generators.stylegan2.architecture import MAPPING_RATE
from teacher.generators.stylegan2.formats.base import (
    Checkpoint,
    CheckpointFile,
    Naming,
    Settings,
    rename,
)
from teacher.generators.stylegan2.formats.known_names import Record
from teacher.generators.stylegan2.formats.pickle_stack import Inert
from teacher.generators.stylegan2.formats.refusal import Refusal, told
from teacher.generators.stylegan2.formats.settings import (
    activation,
    filter_of_taps,
    limit,
    number,
    require,
    require_classes,
)
from teacher.generators.stylegan2.formats.tensors import Array, Changed, Lazy, scaled

_MOST_TAPS = 4096
_CONSTANT = "synthesis/4x4/Const/const"
_CONCAT = "mapping/LabelConcat/weight"
_COMPONENTS = ("mapping", "synthesis")
_NAMING = Naming(
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
    constant=_CONSTANT,
    w_mean="dlatent_avg",
    label="mapping/LabelEmbed/",
)

Values = dict[Any, Any]


class _Given:
    """A variable that is a number, as TensorFlow 1.15 keeps those of shape []."""

    shape: tuple[int, ...] = ()

    def __init__(self, number: float) -> None:
        self.number = float(number)

    def value(self) -> Tensor:
        return torch.tensor(self.number)


class _Zeros:
    """A bias that a format does not have."""

    def __init__(self, size: int) -> None:
        self.shape = (size,)

    def value(self) -> Tensor:
        return torch.zeros(self.shape)


def claims(file: CheckpointFile) -> bool:
    """Whether it is a pickle of a tuple of networks, or of one."""
    return _generator(file.content) is not None


def _generator(content: Any) -> Record | None:
    """Gs, the last of the networks."""
    networks = content if isinstance(content, tuple | list) else (content,)
    last = networks[-1] if networks else None
    is_one = isinstance(last, Record) and isinstance(last.state, dict) and "variables" in last.state
    return last if is_one else None


def read(file: CheckpointFile) -> Checkpoint:
    """Read Gs, the moving average of G.

    Raises:
        Refusal: the networks are not G, D and Gs, or Gs is not StyleGAN2 or has a setting that our network
            does not have.
    """
    network = _generator(file.content)
    assert network is not None
    if isinstance(file.content, tuple | list) and len(file.content) not in (1, 3):
        raise Refusal(f"it holds {len(file.content)} networks, not G, D, Gs or Gs alone")
    variables, kinds = _variables(network), {"": _settings_of(network)}
    for name, component in network.part("components").items():
        if name not in _COMPONENTS or not isinstance(component, Record):
            raise Refusal(f"its generator has a part {told(name)}, which StyleGAN2 has not")
        kinds[name] = kinds[""] | _settings_of(component)
        variables |= {f"{name}/{k}": v for k, v in _variables(component).items()}
    if _CONSTANT not in variables:
        raise Refusal("its generator is not StyleGAN2 (StyleGAN1 and older are not read)")
    variables.pop("lod", None)
    if _CONCAT not in variables:
        label_size = kinds.get("mapping", {}).get("label_size", 0)
        require_classes(label_size, "mapping/LabelEmbed/weight", variables)
    settings = _settings(kinds, _CONCAT in variables, "dlatent_avg" in variables)
    rate = number(kinds.get("mapping", {}), "mapping_lrmul", "its mapping network", MAPPING_RATE)
    tensors = {name: _as_ours(name, v, rate) for name, v in variables.items()}
    if _CONCAT in tensors:
        weight = tensors.pop(_CONCAT)
        classes = weight.shape[1] if len(weight.shape) == 2 else 1
        tensors["mapping/LabelEmbed/weight"] = scaled(weight, classes**0.5)
        tensors["mapping/LabelEmbed/bias"] = _Zeros(weight.shape[0] if weight.shape else 0)
    return rename(tensors, _NAMING, "NVIDIA TensorFlow", settings)


def _settings_of(network: Record) -> Values:
    return network.part("static_kwargs")


def _settings(kinds: Mapping[str, Values], together: bool, average: bool) -> Settings:
    mapping, synthesis = (kinds.get(name, {}) for name in _COMPONENTS)
    architecture = synthesis.get("architecture", "skip")
    if architecture != "skip":
        raise Refusal(
            f"its generator has the architecture {told(architecture)}; read is skip, where every "
            "resolution adds to the image"
        )
    require(
        "its mapping network", "normalize_latents", mapping.get("normalize_latents", True), True
    )
    clamp = limit(synthesis, "its synthesis network")
    resolution = synthesis.get("resolution", 1024)
    if not isinstance(resolution, int) or not 4 <= resolution <= 2**20:
        raise Refusal("the resolution of its synthesis network is not a number")
    layers = 3 * (resolution.bit_length() - 2) - 1  # feature and to-RGB layers
    taps = synthesis.get("resample_kernel", [1, 3, 3, 1])
    return Settings(
        filter=filter_of_taps(_plain(taps), "resample_kernel"),
        activation=activation([("its synthesis", synthesis.get("nonlinearity", "lrelu"))]),
        mapping_activation=activation(
            [("its mapping", mapping.get("mapping_nonlinearity", "lrelu"))]
        ),
        together=together,
        noise=bool(synthesis.get("use_noise", True)),
        mean_known=average,
        clamps=None if clamp is None else (clamp,) * layers,
    )


def _plain(value: Any) -> Any:
    if not isinstance(value, Array):
        return value
    if math.prod(value.shape) > _MOST_TAPS:
        raise Refusal("resample_kernel is an array too large for a filter")
    return value.numpy()


def _variables(network: Record) -> dict[str, Lazy]:
    """Variables of a TensorFlow network without those of the networks in it."""
    state: Any = network.state
    pairs = state.get("variables") if isinstance(state, dict) else None
    if not isinstance(pairs, list | tuple):
        raise Refusal("its generator has no list of variables")
    found: dict[str, Lazy] = {}
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Refusal("a variable of its generator is not a name and an array")
        name, value = pair
        if isinstance(value, Array):
            found[name] = value
        elif isinstance(value, int | float):
            found[name] = _Given(value)
        elif not isinstance(value, Inert) or name in found:
            raise Refusal(f"{name} is not an array of numbers")
    return found


def _as_ours(name: str, variable: Lazy, rate: float) -> Lazy:
    """A variable in PyTorch's layout, with TensorFlow's conventions undone."""
    place, _, kind = name.rpartition("/")
    factor = rate / MAPPING_RATE if place.startswith("mapping/Dense") else 1.0
    shape, change = tuple(variable.shape), None
    if kind in ("weight", "mod_weight"):
        # TensorFlow keeps [height, width, in, out] and [in, out], and convolves where torch correlates.
        if len(shape) == 4:
            flipped = place.endswith("Conv0_up") and kind == "weight"
            change, shape = (
                (_flipped if flipped else _outputs_first),
                (shape[3], shape[2], *shape[:2]),
            )
        elif len(shape) == 2:
            change, shape = _transposed, (shape[1], shape[0])
    elif kind == "mod_bias":
        change = _plus_one
    made = variable if change is None else Changed(variable, shape, change)
    return scaled(made, factor)


def _outputs_first(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1)


def _flipped(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1).flip(2, 3)


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.t()


def _plus_one(tensor: Tensor) -> Tensor:
    return tensor + 1
