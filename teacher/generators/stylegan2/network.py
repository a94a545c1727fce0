"""The StyleGAN2 generator in plain PyTorch operations.

After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
appendix B: modulated and demodulated convolutions, noise inputs, skip connections to RGB, low-pass
filters where the resolution changes, equalised learning rate.

Shapes: B = batch, L = layers that take a style, C = channels, r = a layer's resolution. Feature maps
are named by resolution and position: 4.0, 8.0, 8.1, 16.0, 16.1, ...; style k belongs to layer k, the
to-RGB layers take the style of the layer that follows them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.seeding import seed_everything
from teacher.generators.base import FeatureMap, Latents, inputs_by_number, noise_names
from teacher.generators.stylegan2.architecture import MAPPING_RATE, Architecture, GeneratorConfig
from teacher.generators.stylegan2.layers import (
    ACTIVATION_FUNCTIONS,
    EqualLinear,
    SynthesisLayer,
    ToRGB,
    UpsampleRGB,
)

__all__ = ["Generator", "GeneratorConfig", "mean_latent"]


class Generator(nn.Module):
    """StyleGAN2: z -> w (`mapping`), w and noise -> image and features (`synthesis`)."""

    w_mean: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = whole = Architecture.of(config)
        channels, first_rgb = whole.channels, whole.feature_layers
        self.mapping_layers = nn.ModuleList(
            EqualLinear(a, b, rate=MAPPING_RATE) for a, b in pairwise(whole.mapping_sizes())
        )
        if whole.classes:
            self.label_embedding = EqualLinear(whole.classes, whole.label_size)
        self.register_buffer("w_mean", torch.zeros(whole.w_dim))
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.layers, self.to_rgb = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(channels):
            if i:
                self._add_layer(channels[i - 1], width, up=True)
            self._add_layer(width, width, up=False)
            self.to_rgb.append(ToRGB(width, whole.w_dim, whole.layer_clamp(first_rgb + i)))
        self.upsample = UpsampleRGB(whole.image_filter or whole.filter)

    def _add_layer(self, inputs: int, outputs: int, up: bool) -> None:
        config, k = self.config, len(self.layers)
        side, clamp = 4 << (k + 1) // 2, config.layer_clamp(k)
        layer = SynthesisLayer(
            inputs, outputs, side, config.w_dim, clamp, up, config.activation, config.filter
        )
        self.layers.append(layer)

    @property
    def style_count(self) -> int:
        """L, the number of styles that the synthesis takes: 2 log2(resolution) - 2."""
        return len(self.layers) + 1

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise input of every feature layer."""
        return [(2 ** (2 + (i + 1) // 2),) * 2 for i in range(len(self.layers))]

    @property
    def features(self) -> dict[str, FeatureMap]:
        """The feature maps by name: resolution and position, as in `64.0`, `64.1`."""
        channels = self.config.channels
        maps = {"4.0": FeatureMap(channels[0], 4)}
        for i, count in enumerate(channels[1:]):
            side = 8 * 2**i
            maps |= {f"{side}.{k}": FeatureMap(count, side) for k in range(2)}
        return maps

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return self.config.resolution

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.w_mean.device

    @property
    def z_size(self) -> int:
        """Length of z."""
        return self.config.latent_size

    @property
    def code(self) -> str:
        """Name of the styles among the latents: `w`, [N, L, D]."""
        return "w"

    @property
    def layer_sides(self) -> list[int]:
        """Side at which each style acts; the last one colours the image."""
        return [*(side for _, side in self.features.values()), self.resolution]

    @property
    def classes(self) -> int:
        """Number of classes to choose from; 0 where there is no choice."""
        return 0 if self.config.only_class is not None else self.config.classes

    def random_inputs(self, seed: int, numbers: Sequence[int]) -> Latents:
        """z [N, z_size], noise inputs [N, 1, r, r] and, with classes, class [N], on the CPU.

        Noise is rounded to half precision, so that files may keep it so and give it back exactly.
        """

        def draw(state: torch.Generator) -> Latents:
            z = torch.randn(self.z_size, generator=state)
            noise = [torch.randn(1, *s, generator=state) for s in self.noise_shapes]
            inputs = {"z": z} | {f"noise.{k}": n.half().float() for k, n in enumerate(noise)}
            if self.classes:
                inputs["class"] = torch.randint(self.classes, (), generator=state)
            return inputs

        return inputs_by_number(seed, numbers, draw)

    def inputs_of_z(self, z: Tensor) -> Latents:
        """The given z with the checkpoint's constant noise; with classes, they take turns."""
        noise = {
            f"noise.{k}": n.expand(len(z), -1, -1, -1) for k, n in enumerate(self.constant_noise())
        }
        turns = {"class": torch.arange(len(z)) % self.classes} if self.classes else {}
        return {"z": z} | turns | noise

    @torch.no_grad()
    def latents(self, inputs: Latents, psi: float) -> Latents:
        """Truncated styles w, one for every layer [N, L, D], and the noise inputs as they are.

        Raises:
            UserError: psi is not 1 and the checkpoint has no mean of w, or a class is out of range.
        """
        moved = {name: t.to(self.device, non_blocking=True) for name, t in inputs.items()}
        w = self.truncate(self.mapping(moved.pop("z"), moved.pop("class", None)), psi)
        return {"w": w.unsqueeze(1).repeat(1, self.style_count, 1)} | moved

    def synthesise(self, latents: Latents) -> tuple[Tensor, list[Tensor]]:
        """Images and feature maps of latents."""
        return self.synthesis(latents["w"], [latents[name] for name in noise_names(latents)])

    def mapping(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """[B, latent_size] normal -> [B, w_dim] in w.

        Args:
            classes: class of each, [B]; of a conditional generator.
        """
        x = self._with_class(z, classes) if self.config.classes else _unit_square(z)
        activate = ACTIVATION_FUNCTIONS[self.config.mapping_activation]
        for layer in self.mapping_layers:
            x = activate(layer(x))
        return x

    def _with_class(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """z and the embedding of the class side by side, normalised."""
        count, fixed = self.config.classes, self.config.only_class
        if fixed is not None:
            classes = torch.full((len(z),), fixed, device=z.device)
        if classes is None:
            raise UserError(f"this generator draws {count} classes; say which, as in --class 0.")
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < count:
            raise UserError(
                f"this generator draws classes 0 to {count - 1}; choose --class among them."
            )
        y = self.label_embedding(F.one_hot(classes, count).to(z.dtype))
        if self.config.label_norm == "together":
            return _unit_square(torch.cat([z, y], 1))
        return torch.cat([_unit_square(z), _unit_square(y)], 1)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull w towards its mean; psi = 1 leaves it, psi = 0 gives the mean face.

        Raises:
            UserError: psi is not 1 and the checkpoint has no mean of w.
        """
        if not self.config.mean_known and psi != 1:
            raise UserError(
                f"the generator's checkpoint has no mean of w, which truncation by {psi:g} (and inversion) "
                "needs; use --truncation 1."
            )
        return self.w_mean.lerp(w, psi)

    def constant_noise(self) -> list[Tensor]:
        """The noise maps that belong to the checkpoint, each [1, 1, r, r]."""
        return [layer.get_buffer("noise") for layer in self.layers]

    def random_noise(self, batch: int) -> list[Tensor]:
        """Fresh noise maps from the global random state, each [B, 1, r, r]."""
        return [
            torch.randn(batch, 1, *shape, device=self.w_mean.device) for shape in self.noise_shapes
        ]

    def synthesis(self, w: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Draw images.

        Args:
            w: [B, w_dim], or [B, L, w_dim] with a style for each layer.
            noise: one map per feature layer, [B or 1, 1, r, r].

        Returns:
            Image [B, 3, R, R], nominally in [-1, 1], and the feature maps in the order of
            `feature_names`, each [B, C, r, r].
        """
        if w.ndim == 2:
            w = w.unsqueeze(1).expand(-1, self.style_count, -1)
        x = self.layers[0](self.constant.expand(len(w), -1, -1, -1), w[:, 0], noise[0])
        image, features = self.to_rgb[0](x, w[:, 1]), [x]
        for i in range(1, len(self.to_rgb)):
            for layer in (2 * i - 1, 2 * i):
                x = self.layers[layer](x, w[:, layer], noise[layer])
                features.append(x)
            image = self.upsample(image) + self.to_rgb[i](x, w[:, 2 * i + 1])
        return image, features


def _unit_square(x: Tensor) -> Tensor:
    """Every row divided by the root of its mean square."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


@torch.no_grad()
def mean_latent(generator: Generator, seed: int, count: int = 4096) -> Tensor:
    """Mean of `count` mapped latents, [D]."""
    seed_everything(seed)
    z = torch.randn(count, generator.z_size, device=generator.device)
    return generator.mapping(z).mean(0)
