"""Options of the stage `generator`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from common.options import require_counts
from teacher.generators.stylegan2.network import GeneratorConfig


@dataclass(frozen=True)
class GeneratorStage:
    """Stage `generator`: train a StyleGAN2 on unlabelled photographs, or on rendered faces.

    Args:
        start: generator to go on from instead of from nothing: a generator folder, a checkpoint of an
            interrupted training, NVIDIA's .pkl or rosinality's .pt; with their discriminator, where they
            have one.
        network: architecture of the generator; the discriminator has the same widths. With a start it is
            that of the start.
        images: length of the training, in real images seen by the discriminator.
        wait_images: images before these, while the generator of a start waits and the discriminator learns
            alone. `auto`: 48,000 for a start without a discriminator, else 0.
        batch_size: images per step over all processes; a multiple of four for each process.
        seed: seed of the rendered faces, of the initial weights and of every step.
        learning_rate: Adam's learning rate of the generator. `auto`: 0.004, or from a million images on
            0.0025, from 1024 px on 0.002; the lower ones are the papers', for millions of images.
        discriminator_learning_rate: Adam's learning rate of the discriminator. `auto`: 0.008, twice the
            generator's (Heusel et al., 2017), which lets it learn enough on small batches; from a million
            images on the generator's. With a start both are half as much, and 0.003 while it learns alone.
        noise_lr_factor: learning rate of the noise strengths, as a share of `learning_rate`. They are
            single numbers: at the full rate the noise drowns the image.
        r1_gamma: weight of the R1 penalty (Mescheder et al., 2018). `auto`: 0.0002 x pixels / batch_size.
        r1_every: steps between two R1 updates.
        ema_images: half-life of the moving average of the weights, in images. `auto`: 312.5 x batch_size.
        style_mixing: probability that an image has the styles of two latents, one up to some layer and the
            other from there on (Karras et al., 2019).
        path_length_weight: weight of the path length regularisation, which asks that a step in w changes
            the image by the same amount everywhere (Karras et al., 2020); 2 in the paper, 0 for none.
        path_length_every: steps between two of its updates.
        precision: number format of the convolutions: 32-bit floats (no), bf16, or auto for bf16 where the
            device computes in it; R1 is always in 32-bit floats.
        log_every: images between two lines of metrics.
        save_every: images between two checkpoints, each with a sheet of samples.
        workers: processes that load photographs or render faces.
        flip: probability that a photograph is mirrored.
        ada: augmentation of all images that the discriminator sees, for few photographs, so that it does
            not learn them by heart (Karras et al., 2020).
        ada_target: mean sign of the discriminator's output on real images that the augmentation aims at.
        ada_images: images in which the augmentation probability can go from zero to one. `auto`: 500,000,
            or 100,000 with a start.
        frechet_network: encoder of the Fréchet distance to the real images: a finished student folder, or
            the name of a timm model with pretrained weights. None for no measurement.
        frechet_every: images between two measurements of the Fréchet distance.
        frechet_images: real and generated images, of each so many, in a measurement.
    """

    start: Path | None = None
    network: GeneratorConfig = GeneratorConfig()
    images: int = 200_000
    wait_images: int | Literal["auto"] = "auto"
    batch_size: int = 32
    seed: int = 0
    learning_rate: float | Literal["auto"] = "auto"
    discriminator_learning_rate: float | Literal["auto"] = "auto"
    noise_lr_factor: float = 0.02
    r1_gamma: float | Literal["auto"] = "auto"
    r1_every: int = 16
    ema_images: float | Literal["auto"] = "auto"
    style_mixing: float = 0.0
    path_length_weight: float = 0.0
    path_length_every: int = 4
    precision: Literal["auto", "no", "bf16"] = "auto"
    log_every: int = 1_600
    save_every: int = 8_000
    workers: int = 1
    flip: float = 0.5
    ada: bool = False
    ada_target: float = 0.6
    ada_images: int | Literal["auto"] = "auto"
    frechet_network: str | None = None
    frechet_every: int = 40_000
    frechet_images: int = 2_000

    def __post_init__(self) -> None:
        require_counts(
            "generator", self,
            "batch_size", "r1_every", "path_length_every", "log_every", "save_every", "frechet_every",
            "frechet_images",
        )  # fmt: skip
        if not 0 <= self.style_mixing <= 1 or self.path_length_weight < 0:
            raise UserError(
                f"generator.style_mixing is {self.style_mixing} and generator.path_length_weight "
                f"{self.path_length_weight}; the first is a probability, the second not below 0."
            )
        if self.wait_images != "auto" and self.wait_images < 0:
            raise UserError(
                f"generator.wait_images is {self.wait_images}; it is a number of images, or auto."
            )
        if self.images < self.batch_size:
            raise UserError(
                f"generator.images is {self.images}, less than a batch ({self.batch_size}): say how many "
                "it learns from, as in --generator.images 200000."
            )


@dataclass(frozen=True)
class GeneratorTraining:
    """What the stage `generator` depends on.

    Args:
        recipe: how the generator is trained, without the start, which is an input.
        kept_back: number of the photographs that it does not see.
    """

    recipe: GeneratorStage
    kept_back: int = 0
