"""The architecture of a StyleGAN2 generator: what its training is asked for, and what checkpoints add.

Nothing is allocated here: shapes, ceilings and the file `generator.json` are settled before a network is
made.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Shape = tuple[int, ...]

MAX_LEVELS = 10  # 2048 px
MAX_SIZE = 8192  # of a layer, of z, of w
MAX_DEPTH = 64  # layers of a mapping network
MAX_CLASSES = 100_000
MAX_PARAMETERS = 2**28
MAX_TAPS = 32
ACTIVATIONS = ("lrelu", "relu", "linear")
DEFAULT_FILTER = (1.0, 3.0, 3.0, 1.0)
MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network


class ArchitectureError(ValueError):
    """An architecture that no StyleGAN2 can have, or that is beyond the ceilings; says what is wrong."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator.

    Args:
        channels: width at 4, 8, 16, ... pixels; its length sets the resolution.
        latent_size: length of z.
        style_size: length of w; none for the length of z.
        mapping_layers: depth of the mapping network.
        clamp: limit of all activations, a guard of half precision; none for no limit.
    """

    channels: tuple[int, ...] = (128, 128, 96, 64, 32)
    latent_size: int = 128
    style_size: int | None = None
    mapping_layers: int = 4
    clamp: float | None = None

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)

    @property
    def w_dim(self) -> int:
        return self.style_size or self.latent_size


@dataclass(frozen=True)
class Architecture(GeneratorConfig):
    """An architecture with what only checkpoints of other systems have.

    Args:
        filter: taps of the low-pass filter of convolutions; scaled to sum to one when used.
        image_filter: the same of the image on its way up; none for that of the convolutions.
        activation: of the feature layers.
        mapping_activation: of the mapping network.
        mapping_size: width of the mapping network inside; none for the length of w.
        clamps: limit of each feature layer, then of each to-RGB layer, where they differ.
        classes: number of classes of a conditional generator.
        label_size: length of a class's embedding.
        label_norm: whether z and the embedding are normalised each by itself or together.
        only_class: the class that is always drawn, where `convert` was told one.
        mean_known: whether the checkpoint has the mean of w, which truncation needs.
    """

    filter: tuple[float, ...] = DEFAULT_FILTER
    image_filter: tuple[float, ...] | None = None
    activation: str = "lrelu"
    mapping_activation: str = "lrelu"
    mapping_size: int | None = None
    clamps: tuple[float | None, ...] | None = None
    classes: int = 0
    label_size: int = 0
    label_norm: Literal["apart", "together"] = "apart"
    only_class: int | None = None
    mean_known: bool = True

    @staticmethod
    def of(config: GeneratorConfig) -> "Architecture":
        """The same, with all that it does not say as our own training has it."""
        return config if isinstance(config, Architecture) else Architecture(**vars(config))

    @property
    def feature_layers(self) -> int:
        return 2 * len(self.channels) - 1

    def layer_clamp(self, k: int) -> float | None:
        """Limit of feature layer k; to-RGB layers follow behind the last."""
        return self.clamps[k] if self.clamps else self.clamp

    def mapping_sizes(self) -> list[int]:
        """Lengths between the layers of the mapping network, from z and a class's embedding to w."""
        inner = [self.mapping_size or self.w_dim] * (self.mapping_layers - 1)
        return [self.latent_size + self.label_size, *inner, self.w_dim]

    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors of `Generator`, by name."""
        sizes = self.mapping_sizes()
        found: dict[str, Shape] = {"w_mean": (self.w_dim,)}
        if self.classes:
            found |= _linear("label_embedding.", self.classes, self.label_size)
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            found |= _linear(f"mapping_layers.{i}.", a, b)
        found["constant"] = (1, self.channels[0], 4, 4)
        for k in range(self.feature_layers):
            level = (k + 1) // 2
            inputs, outputs = self.channels[k // 2], self.channels[level]
            place, side = f"layers.{k}.", 4 << level
            found |= self._conv(place, inputs, outputs, 3)
            found[f"{place}noise_strength"] = ()
            found[f"{place}noise"] = (1, 1, side, side)
        for i, width in enumerate(self.channels):
            found |= self._conv(f"to_rgb.{i}.", width, 3, 1)
        return found

    def _conv(self, place: str, inputs: int, outputs: int, kernel: int) -> dict[str, Shape]:
        conv: Shape = (outputs, inputs, kernel, kernel)
        affine = _linear(f"{place}conv.affine.", self.w_dim, inputs)
        return {f"{place}conv.weight": conv, **affine, f"{place}bias": (outputs,)}

    def check(self) -> "Architecture":
        """Itself.

        Raises:
            ArchitectureError: it is beyond a ceiling, or its values contradict each other.
        """
        if not 1 <= len(self.channels) <= MAX_LEVELS:
            raise ArchitectureError(
                f"it has {len(self.channels)} resolutions, where 1 to {MAX_LEVELS} are possible"
            )
        for name, size in self._sizes():
            if not 1 <= size <= MAX_SIZE:
                raise ArchitectureError(f"its {name} is {size}, where 1 to {MAX_SIZE} are possible")
        if not 1 <= self.mapping_layers <= MAX_DEPTH:
            raise ArchitectureError(
                f"its mapping network has {self.mapping_layers} layers, where 1 to {MAX_DEPTH} are possible"
            )
        if not 0 <= self.classes <= MAX_CLASSES:
            raise ArchitectureError(f"it has {self.classes} classes, more than {MAX_CLASSES}")
        count = sum(math.prod(shape) for shape in self.shapes().values())
        if count > MAX_PARAMETERS:
            raise ArchitectureError(f"it has {count} parameters, more than {MAX_PARAMETERS}")
        self._check_settings()
        return self

    def _sizes(self) -> list[tuple[str, int]]:
        sizes = [(f"width at {4 << i} px", width) for i, width in enumerate(self.channels)]
        sizes += [("length of z", self.latent_size), ("length of w", self.w_dim)]
        if self.mapping_size is not None:
            sizes.append(("width of the mapping network", self.mapping_size))
        if self.classes or self.label_size:
            sizes.append(("length of a class's embedding", self.label_size))
        return sizes

    def _check_settings(self) -> None:
        for activation in (self.activation, self.mapping_activation):
            if activation not in ACTIVATIONS:
                raise ArchitectureError(
                    f"its activation is {activation}, where {', '.join(ACTIVATIONS)} are possible"
                )
        for taps in (self.filter, self.image_filter or self.filter):
            if not 1 <= len(taps) <= MAX_TAPS or not all(map(math.isfinite, taps)):
                raise ArchitectureError(f"its filter has {len(taps)} taps, or not all are numbers")
            if abs(sum(taps)) < 1e-3 * max(map(abs, taps)) or not any(taps):
                raise ArchitectureError("the taps of its filter sum to zero")
        layers = self.feature_layers + len(self.channels)
        if self.clamps is not None and len(self.clamps) != layers:
            raise ArchitectureError(f"it has {len(self.clamps)} limits for {layers} layers")
        for limit in (self.clamp, *(self.clamps or ())):
            if limit is not None and not 0 < limit < math.inf:
                raise ArchitectureError(f"a limit of its activations is {limit}, not above 0")
        if self.only_class is not None and not 0 <= self.only_class < self.classes:
            raise ArchitectureError(f"it draws class {self.only_class} of {self.classes}")

    def to_json(self) -> dict[str, Any]:
        """For `generator.json`; what only checkpoints of other systems have stands there where they do."""
        values = asdict(self) | {"channels": list(self.channels)}
        always = {f.name for f in fields(GeneratorConfig)}
        usual = {f.name: f.default for f in fields(self)}
        return {k: v for k, v in values.items() if k in always or v != usual[k]}

    @staticmethod
    def from_json(values: object) -> "Architecture":
        """What `to_json` gave.

        Raises:
            ArchitectureError: a value is missing, unknown, of a wrong type or beyond a ceiling.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("channels"), list | tuple):
            raise ArchitectureError("it has no list of channels")
        known = {f.name for f in fields(Architecture)}
        given = {name: value for name, value in values.items() if name != "family"}
        if unknown := sorted(set(given) - known):
            raise ArchitectureError(f"it says {unknown[0]}, which no StyleGAN2 here knows")
        for name, value in given.items():
            if not _is_valid(name, value):
                raise ArchitectureError(f"its {name} has a value of a wrong type")
            if isinstance(value, list):
                given[name] = tuple(value)
        return Architecture(**given).check()


def _linear(place: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{place}weight": (outputs, inputs), f"{place}bias": (outputs,)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_valid(name: str, value: object) -> bool:
    """Whether a value of `generator.json` has the type of its field."""
    if name in ("style_size", "mapping_size", "only_class"):
        return value is None or (_is_count(value) and name == "only_class") or _is_positive(value)
    if name in ("channels", "filter", "image_filter", "clamps"):
        if value is None or not isinstance(value, list | tuple):
            return value is None and name in ("image_filter", "clamps")
        one = _is_count if name == "channels" else _is_number
        return all(one(v) or (v is None and name == "clamps") for v in value)
    if name == "clamp":
        return value is None or _is_number(value)
    if name in ("activation", "mapping_activation"):
        return isinstance(value, str)
    if name == "label_norm":
        return value in ("apart", "together")
    return isinstance(value, bool) if name == "mean_known" else _is_count(value)


def _is_positive(value: object) -> bool:
    return _is_count(value) and isinstance(value, int) and value > 0
