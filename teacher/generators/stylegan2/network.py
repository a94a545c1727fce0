"""The StyleGAN2 generator in plain PyTorch operations.

After Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
appendix B: modulated and demodulated convolutions, noise inputs, skip connections to RGB, low-pass
filters where the resolution changes, equalised learning rate.

Shapes: B = batch, L = layers that take a style, C = channels, r = a layer's resolution. Feature maps
are named by resolution and position: 4.0, 8.0, 8.1, 16.0, 16.1, ...; style k belongs to layer k, the
to-RGB layers take the style of the layer that follows them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from common.seeding import seed_everything
from teacher.generators.base import FeatureMap, Latents, inputs_by_number, noise_names
from teacher.generators.stylegan2.layers import (
    EqualLinear,
    SynthesisLayer,
    ToRGB,
    UpsampleRGB,
    lrelu,
)


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"channels": list(self.channels)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "GeneratorConfig":
        return GeneratorConfig(**(values | {"channels": tuple(values["channels"])}))


class Generator(nn.Module):
    """StyleGAN2: z -> w (`mapping`), w and noise -> image and features (`synthesis`)."""

    w_mean: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels, common = config.channels, (config.w_dim, config.clamp)
        self.mapping_layers = nn.ModuleList(
            EqualLinear(config.w_dim if i else config.latent_size, config.w_dim, rate=0.01)
            for i in range(config.mapping_layers)
        )
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.layers = nn.ModuleList(
            [SynthesisLayer(channels[0], channels[0], 4, *common, up=False)]
        )
        self.to_rgb = nn.ModuleList([ToRGB(channels[0], *common)])
        for i, (narrow, wide) in enumerate(pairwise(channels)):
            resolution = 8 * 2**i
            self.layers.append(SynthesisLayer(narrow, wide, resolution, *common, up=True))
            self.layers.append(SynthesisLayer(wide, wide, resolution, *common, up=False))
            self.to_rgb.append(ToRGB(wide, *common))
        self.upsample = UpsampleRGB()

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

    def random_inputs(self, seed: int, numbers: Sequence[int]) -> Latents:
        """z [N, z_size] and noise inputs [N, 1, r, r] of samples of a seed, on the CPU.

        Noise is rounded to half precision, so that files may keep it so and give it back exactly.
        """

        def draw(state: torch.Generator) -> Latents:
            z = torch.randn(self.z_size, generator=state)
            noise = [torch.randn(1, *s, generator=state) for s in self.noise_shapes]
            return {"z": z} | {f"noise.{k}": n.half().float() for k, n in enumerate(noise)}

        return inputs_by_number(seed, numbers, draw)

    def inputs_of_z(self, z: Tensor) -> Latents:
        """The given z with the checkpoint's constant noise."""
        noise = {
            f"noise.{k}": n.expand(len(z), -1, -1, -1) for k, n in enumerate(self.constant_noise())
        }
        return {"z": z} | noise

    @torch.no_grad()
    def latents(self, inputs: Latents, psi: float) -> Latents:
        """Truncated styles w, one for every layer [N, L, D], and the noise inputs as they are."""
        moved = {name: t.to(self.device, non_blocking=True) for name, t in inputs.items()}
        w = self.truncate(self.mapping(moved.pop("z")), psi)
        return {"w": w.unsqueeze(1).repeat(1, self.style_count, 1)} | moved

    def synthesise(self, latents: Latents) -> tuple[Tensor, list[Tensor]]:
        """Images and feature maps of latents."""
        return self.synthesis(latents["w"], [latents[name] for name in noise_names(latents)])

    def mapping(self, z: Tensor) -> Tensor:
        """[B, latent_size] normal -> [B, w_dim] in w."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.mapping_layers:
            x = lrelu(layer(x))
        return x

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull w towards its mean; psi = 1 leaves it, psi = 0 gives the mean face."""
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

    def forward(self, z: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """[B, latent_size] -> image and w, for training."""
        w = self.mapping(z)
        return self.synthesis(w, noise)[0], w


@torch.no_grad()
def mean_latent(generator: Generator, seed: int, count: int = 4096) -> Tensor:
    """Mean of `count` mapped latents, [D]."""
    seed_everything(seed)
    z = torch.randn(count, generator.z_size, device=generator.device)
    return generator.mapping(z).mean(0)
