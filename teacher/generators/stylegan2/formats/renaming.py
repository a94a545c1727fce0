"""From a format's names of a StyleGAN2's tensors to ours, and from their shapes to the architecture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.seeding import seed_everything
from teacher.generators.stylegan2.architecture import (
    DEFAULT_FILTER,
    MAX_DEPTH,
    MAX_LEVELS,
    Architecture,
    Shape,
)
from teacher.generators.stylegan2.formats.refusal import Refusal
from teacher.generators.stylegan2.formats.tensors import Lazy
from teacher.generators.stylegan2.network import Generator

_MEAN_COUNT = 4096  # mapped latents that a missing mean of w is taken over

Tensors = Mapping[str, Tensor] | Mapping[str, Lazy] | Mapping[str, Tensor | Lazy]


@dataclass(frozen=True)
class Checkpoint:
    """A generator read from a file.

    Args:
        config: its architecture.
        weights: the state of our `Generator`, float32.
        origin: name of the format, for people.
        notes: what the file lacked and what was taken instead.
    """

    config: Architecture
    weights: dict[str, Tensor]
    origin: str
    notes: list[str]


@dataclass(frozen=True)
class Naming:
    """A format's names of our tensors. k counts feature layers, i other layers, r is a resolution.

    Args:
        mapping: prefix of layer i of the mapping network.
        layer: prefix of feature layer k.
        noise: name of the constant noise of feature layer k.
        to_rgb: prefix of to-RGB layer i.
        weight: name of a convolution's weight, below the prefix.
        style_weight: name of the weight of a style's affine map, below the prefix.
        style_bias: name of the bias of a style's affine map, below the prefix.
        strength: name of the noise strength, below the prefix.
        layer_bias: name of a feature layer's bias, below the prefix.
        rgb_bias: name of a to-RGB layer's bias, below the prefix.
        constant: name of the learned constant input.
        w_mean: name of the mean of w.
        may_lack_noise: whether files may hold neither the constant noise nor the mean of w.
        label: prefix of the embedding of classes; none where the format has no conditional generators.
    """

    mapping: Callable[[int], str]
    layer: Callable[[int, int], str]
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
    may_lack_noise: bool = False
    label: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a checkpoint says beside its tensors, in the words of `Architecture`.

    Args:
        noise: whether its layers have noise inputs.
        mean_known: whether it keeps the mean of w.
        clamps: limit of each feature layer, then of each to-RGB layer; none for no limits at all.
        notes: what had to be assumed.
    """

    filter: tuple[float, ...] = DEFAULT_FILTER
    image_filter: tuple[float, ...] | None = None
    activation: str = "lrelu"
    mapping_activation: str = "lrelu"
    together: bool = False
    noise: bool = True
    mean_known: bool = True
    clamps: tuple[float | None, ...] | None = None
    notes: list[str] = field(default_factory=list)


def rename(
    tensors: Tensors, naming: Naming, origin: str, settings: Settings | None = None
) -> Checkpoint:
    """Infer the architecture from the shapes, then give every tensor our name and shape.

    Args:
        tensors: all tensors of the generator by their names in the file, and no others.
        origin: name of the format, for people.
        settings: what the file says beside its tensors.

    Raises:
        Refusal: a tensor is missing, left over, of the wrong shape or not finite.
    """
    settings, left = settings or Settings(), dict(tensors)
    config = _infer_architecture(left, naming, settings).check()
    expected, colours = config.shapes(), _colours(left, naming)

    found: dict[str, tuple[str, Tensor | Lazy]] = {}
    for name, theirs in _their_names(config, naming).items():
        tensor = left.pop(theirs, None)
        if tensor is None:
            if _may_lack(name, naming, settings):
                continue
            raise Refusal(f"the tensor {theirs} is missing")
        shape = _in_colours(name, expected[name], colours)
        if _squeezed(tensor.shape) != _squeezed(shape):
            raise Refusal(
                f"{theirs} has the shape {list(tensor.shape)}, its place asks for {list(shape)}"
            )
        found[name] = theirs, tensor
    if left:
        raise Refusal(f"the tensor {min(left)} has no place in a StyleGAN2 of its kind")
    weights = {
        name: _numbers(theirs, tensor, name, expected[name], colours)
        for name, (theirs, tensor) in found.items()
    }
    notes = [*settings.notes]
    if colours == 1:
        notes.append("its images are grey: drawn as three equal channels")
    return Checkpoint(config, weights, origin, notes + _fill_in(config, weights, settings))


def _may_lack(name: str, naming: Naming, settings: Settings) -> bool:
    if name.endswith((".noise", ".noise_strength")) and not settings.noise:
        return True
    if name == "w_mean" and not settings.mean_known:
        return True
    return naming.may_lack_noise and (name == "w_mean" or name.endswith(".noise"))


def _in_colours(name: str, shape: Shape, colours: int) -> Shape:
    """The shape that a to-RGB layer's tensor has in a file of images with so many channels."""
    if not name.startswith("to_rgb.") or "affine" in name:
        return shape
    return (colours, *shape[1:])


def _numbers(theirs: str, tensor: Tensor | Lazy, name: str, shape: Shape, colours: int) -> Tensor:
    value = tensor if isinstance(tensor, Tensor) else tensor.value()
    if value.is_complex() or value.dtype == torch.bool:
        raise Refusal(f"the tensor {theirs} is not of real numbers")
    value = value.float().reshape(_in_colours(name, shape, colours))
    if not value.isfinite().all():
        raise Refusal(f"the tensor {theirs} holds values that are no finite numbers")
    return value.expand(shape).contiguous()


def _infer_architecture(
    tensors: Mapping[str, Tensor | Lazy], naming: Naming, settings: Settings
) -> Architecture:
    def shape(name: str, sides: int | None = None) -> list[int]:
        if name not in tensors:
            raise Refusal(f"the tensor {name} is missing")
        found = list(tensors[name].shape)
        if sides is not None and len(found) < sides:
            raise Refusal(f"{name} has the shape {found}, its place asks for {sides} sides")
        return found

    depth = 0
    while f"{naming.mapping(depth)}weight" in tensors and depth <= MAX_DEPTH:
        depth += 1
    inner, inputs = shape(f"{naming.mapping(0)}weight", 2)[-2:]
    w_size = shape(f"{naming.mapping(max(0, depth - 1))}weight", 2)[-2]
    classes = label_size = 0
    if naming.label and f"{naming.label}weight" in tensors:
        label_size, classes = shape(f"{naming.label}weight", 2)[-2:]
    channels = [shape(naming.constant, 3)[-3]]
    while (
        len(channels) <= MAX_LEVELS
        and (r := 4 * 2 ** len(channels))
        and (f"{naming.to_rgb(len(channels), r)}{naming.weight}" in tensors)
    ):
        channels.append(shape(f"{naming.to_rgb(len(channels), r)}{naming.weight}", 3)[-3])
    clamps = settings.clamps
    alike = clamps is not None and len(set(clamps)) == 1
    return Architecture(
        channels=tuple(channels),
        latent_size=inputs - label_size,
        style_size=None if w_size == inputs - label_size else w_size,
        mapping_layers=depth,
        clamp=clamps[0] if clamps and alike else None,
        filter=settings.filter,
        image_filter=None if settings.image_filter == settings.filter else settings.image_filter,
        activation=settings.activation,
        mapping_activation=settings.mapping_activation,
        mapping_size=None if inner == w_size or depth == 1 else inner,
        clamps=None if alike else clamps,
        classes=classes,
        label_size=label_size,
        label_norm="together" if settings.together else "apart",
        mean_known=settings.mean_known,
    )


def _colours(tensors: Mapping[str, Tensor | Lazy], naming: Naming) -> int:
    """Channels of the images: 3, or 1 for grey.

    Raises:
        Refusal: they have any other number.
    """
    name = f"{naming.to_rgb(0, 4)}{naming.weight}"
    if name not in tensors:
        raise Refusal(f"the tensor {name} is missing")
    shape = tensors[name].shape
    colours = shape[-4] if len(shape) >= 4 else 0
    if colours not in (1, 3):
        raise Refusal(
            f"its images have {colours} channels; those with 3 (RGB) or 1 (grey) are read"
        )
    return colours


def _their_names(config: Architecture, naming: Naming) -> dict[str, str]:
    """Our tensor's name -> theirs."""
    names = {"constant": naming.constant, "w_mean": naming.w_mean}
    for kind in ("weight", "bias"):
        for i in range(config.mapping_layers):
            names[f"mapping_layers.{i}.{kind}"] = naming.mapping(i) + kind
        if config.classes:
            names[f"label_embedding.{kind}"] = f"{naming.label}{kind}"
    for k in range(config.feature_layers):
        r = 2 ** (2 + (k + 1) // 2)
        ours, theirs = f"layers.{k}.", naming.layer(k, r)
        names |= _conv_names(ours, theirs, naming) | {
            f"{ours}noise_strength": theirs + naming.strength,
            f"{ours}bias": theirs + naming.layer_bias,
            f"{ours}noise": naming.noise(k, r),
        }
    for i in range(len(config.channels)):
        ours, theirs = f"to_rgb.{i}.", naming.to_rgb(i, 4 * 2**i)
        names |= _conv_names(ours, theirs, naming) | {f"{ours}bias": theirs + naming.rgb_bias}
    return names


def _conv_names(ours: str, theirs: str, naming: Naming) -> dict[str, str]:
    return {
        f"{ours}conv.weight": theirs + naming.weight,
        f"{ours}conv.affine.weight": theirs + naming.style_weight,
        f"{ours}conv.affine.bias": theirs + naming.style_bias,
    }


def _fill_in(config: Architecture, weights: dict[str, Tensor], settings: Settings) -> list[str]:
    """Add what is missing, the same at every reading: constant noise and the mean of w are drawn."""
    shapes, notes = config.shapes(), []
    if not settings.noise:
        for name in [n for n in shapes if n.endswith((".noise", ".noise_strength"))]:
            weights.setdefault(name, torch.zeros(shapes[name]))
        notes.append("its layers have no noise inputs: their strength is zero")
    if not settings.mean_known:
        weights["w_mean"] = torch.zeros(config.w_dim)
        notes.append("it has no mean of w: it draws with truncation 1 only")
    missing = [name for name in shapes if name not in weights]
    if not missing:
        return notes
    generator = Generator(config)
    noise = [name for name in generator.state_dict() if name in missing and name.endswith(".noise")]
    seed_everything(0)
    for name in noise:
        weights[name] = torch.randn(shapes[name])
    if noise:
        notes.append("the file holds no constant noise: drawn from seed 0")
    if "w_mean" in missing:
        weights["w_mean"] = torch.zeros(config.w_dim)
        generator.load_state_dict(weights)
        with torch.no_grad():
            mapped = generator.mapping(torch.randn(_MEAN_COUNT, config.latent_size))
        weights["w_mean"] = mapped.mean(0)
        notes.append(f"the file holds no mean of w: taken over {_MEAN_COUNT} latents of seed 0")
    return notes


def _squeezed(shape: tuple[int, ...] | torch.Size) -> list[int]:
    return [size for size in shape if size != 1]
