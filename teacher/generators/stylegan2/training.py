"""Train a StyleGAN2 generator on unlabelled images: photographs, or rendered faces without end.

After Karras et al. (2020): non-saturating logistic loss, lazy R1 regularisation (Mescheder et al.,
2018), Adam with betas (0, 0.99), an exponential moving average of the generator's weights as the
result. Every step draws its randomness from (seed, step, rank), so that an interrupted run goes on
exactly where it was. Progress counts images.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoints import Checkpoints
from common.errors import UserError, require_counts
from common.frechet import Encode
from common.seeding import seed_everything
from common.stage_folder import Result, StageFolder
from datasets.sheets import save_sheet
from teacher.generators.registry import ARCHITECTURE, WEIGHTS, save_generator
from teacher.generators.sampling import draw_sheet, mean_latent
from teacher.generators.stylegan2.ada import Adaptation, augment
from teacher.generators.stylegan2.discriminator import Discriminator
from teacher.generators.stylegan2.network import Generator, GeneratorConfig
from teacher.generators.stylegan2.real_images import FrechetMeter, RealPictures


@dataclass(frozen=True)
class GeneratorStage:
    """Stage `generator`.

    Args:
        network: widths and latent size; the resolution follows from them.
        images: length of the training in images shown to the discriminator.
        batch_size: images per step over all processes; a multiple of four per process.
        seed: of the rendered faces, the initial weights and every step.
        learning_rate: Adam's learning rate of the generator. Weights have unit variance, so that it is the share
            by which a step changes them: the paper's 0.002 is for millions of images, a training of
            some hundred thousand wants more.
        discriminator_learning_rate: of the discriminator. Where it only keeps step with the generator it
            learns little on small batches; twice the rate (Heusel et al., 2017) lets it lead.
        noise_lr_factor: learning rate of the noise inputs' strengths, as a share of `rate`. They are single
            numbers before small activations: at the full rate the noise drowns the picture.
        r1_gamma: weight of R1.
        r1_every: steps between two R1 updates.
        ema_images: half-life of the moving average, in images.
        precision: of the convolutions; R1 stays in float32.
        log_every: images between two lines of metrics.
        save_every: images between two checkpoints, each with a sheet of samples.
        workers: processes that draw the faces.
        flip: probability that a photograph is mirrored.
        ada: for few photographs: transform what the discriminator sees, as strongly as it takes
            to keep it from learning the set by heart.
        ada_target: mean sign of its output on real pictures that is aimed at.
        ada_images: images in which the strength may go from nothing to full.
        frechet_network: measure the Fréchet distance in the features of this network: a finished
            student folder, or a timm model with pretrained weights. None for no measurement.
        frechet_every: images between two measurements.
        frechet_images: pictures of each kind that it compares.
    """

    network: GeneratorConfig = GeneratorConfig()
    images: int = 200_000
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 4e-3
    discriminator_learning_rate: float = 8e-3
    noise_lr_factor: float = 0.02
    r1_gamma: float = 0.05
    r1_every: int = 16
    ema_images: float = 8_000
    precision: Literal["no", "bf16"] = "bf16"
    log_every: int = 1_600
    save_every: int = 8_000
    workers: int = 1
    flip: float = 0.5
    ada: bool = False
    ada_target: float = 0.6
    ada_images: int = 200_000
    frechet_network: str | None = None
    frechet_every: int = 40_000
    frechet_images: int = 2_000

    def __post_init__(self) -> None:
        counts = ("batch", "r1_every", "log_every", "save_every", "frechet_every", "frechet_count")
        require_counts("generator", self, *counts)
        if self.images < self.batch_size:
            raise UserError(
                f"generator.images is {self.images}, less than a batch ({self.batch_size}): say how many it "
                "learns from, as in --generator.images 200000."
            )


def train_generator(
    config: GeneratorStage,
    folder: StageFolder,
    load_encoder: Callable[[str, torch.device], Encode],
) -> Result:
    """Run the stage: writes `generator.safetensors`, `generator.json` and `samples.png`.

    Reads the input `photographs`, or rendered faces where there is none.

    Args:
        load_encoder: how to come by the network of `frechet_network`.
    """
    process = PartialState()
    rank, ranks = process.process_index, process.num_processes
    if config.batch_size % (4 * ranks):
        raise UserError(
            f"generator.batch_size is {config.batch_size}: it must be a multiple of four for each of the "
            f"{ranks} processes."
        )
    local, steps = config.batch_size // ranks, config.images // config.batch_size

    # Networks and optimisers. Ranks start alike, since they draw from the same seed.
    seed_everything(config.seed)
    generator = Generator(config.network).to(process.device)
    discriminator = Discriminator(config.network.channels).to(process.device)
    average = Generator(config.network).to(process.device).requires_grad_(False)
    average.load_state_dict(generator.state_dict())
    for network in (generator, discriminator, average):
        network.to(memory_format=torch.channels_last)
    lazy = config.r1_every / (config.r1_every + 1)  # keeps Adam's time scale, as in the paper
    optimise_g = torch.optim.Adam(
        _groups(generator, config), config.learning_rate, (0.0, 0.99), eps=1e-8
    )
    optimise_d = torch.optim.Adam(
        discriminator.parameters(),
        config.discriminator_learning_rate * lazy,
        (0.0, 0.99**lazy),
        eps=1e-8,
    )

    # Take up an interrupted run.
    adaptation = Adaptation(config.ada_target, config.ada_images)
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    if state := checkpoints.newest():
        first, adaptation.p = state["step"], state["p"]
        generator.load_state_dict(state["generator"])
        discriminator.load_state_dict(state["discriminator"])
        average.load_state_dict(state["average"])
        optimise_g.load_state_dict(state["optimise_g"])
        optimise_d.load_state_dict(state["optimise_d"])
        process.print(f"generator: resumed at image {first * config.batch_size}")

    size, packed = config.network.resolution, folder.checkpoints / "photographs.bytes"
    pictures = RealPictures(folder.inputs.get("photographs"), size, config.seed, packed)
    loader = pictures.batches(first, steps, config.batch_size, rank, ranks, config.workers)
    measure = None
    if config.frechet_network and process.is_main_process:
        encode = load_encoder(config.frechet_network, process.device)
        measure = FrechetMeter(encode, pictures, config.frechet_images)

    def autocast() -> torch.autocast:
        return torch.autocast(
            process.device.type, torch.bfloat16, enabled=config.precision == "bf16"
        )

    def latents() -> Tensor:
        return torch.randn(local, config.network.latent_size, device=process.device)

    bar = tqdm(
        total=steps * config.batch_size, initial=first * config.batch_size, unit="img", desc="generator",
        disable=not process.is_main_process,
    )  # fmt: skip
    sums: dict[str, Tensor] = {}
    mark, since = first * config.batch_size, time.monotonic()
    for step, real_uint8 in enumerate(loader, first):
        seed_everything(config.seed, step, rank)
        real = real_uint8.to(process.device, memory_format=torch.channels_last)
        real = real.float() / 127.5 - 1
        if pictures.photographs is not None:
            mirrored = torch.rand(local, 1, 1, 1, device=process.device) < config.flip
            real = torch.where(mirrored, real.flip(-1), real)
        real = augment(real, adaptation.p)

        # Discriminator: real up, generated down. The generator is asked once for both updates.
        with autocast():
            fake, w = generator(latents(), generator.random_noise(local))
            seen_fake = augment(fake, adaptation.p)
            score_fake, score_real = discriminator(seen_fake.detach()), discriminator(real)
            loss_d = F.softplus(score_fake).mean() + F.softplus(-score_real).mean()
        losses = {
            "loss/d": loss_d,
            "score/real": score_real.mean(),
            "score/fake": score_fake.mean(),
        }
        _update(discriminator, optimise_d, loss_d)

        if config.ada:
            sign = reduce(score_real.detach().sign().float().mean(), "mean")
            adaptation.follow(float(sign), config.batch_size)
            losses["augment/p"] = torch.tensor(adaptation.p, device=process.device)

        # R1: gradients on real images, seldom but stronger.
        if step % config.r1_every == 0:
            real.requires_grad_(True)
            (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
            penalty = slope.square().sum((1, 2, 3)).mean()
            losses["loss/r1"] = penalty
            loss_r1 = penalty * (config.r1_gamma / 2 * config.r1_every)
            _update(discriminator, optimise_d, loss_r1)

        # Generator: make the discriminator say real.
        discriminator.requires_grad_(False)
        with autocast():
            loss_g = F.softplus(-discriminator(seen_fake)).mean()
        losses["loss/g"] = loss_g
        _update(generator, optimise_g, loss_g)
        discriminator.requires_grad_(True)

        # Moving averages of w and of the weights; short at first, so that the start is forgotten.
        mean_w = reduce(w.detach().float().mean(0), "mean")
        generator.w_mean.lerp_(mean_w, 0.002 if step > 1000 else 0.02)
        seen = (step + 1) * config.batch_size
        half_life = min(config.ema_images, max(seen * 0.05, 1))
        _follow(average, generator, 0.5 ** (config.batch_size / half_life))

        # Log, show, save.
        for name, value in losses.items():
            sums.setdefault(name, torch.zeros(2, device=process.device))
            sums[name] += torch.stack([value.detach().float(), torch.ones_like(value.detach())])
        bar.update(config.batch_size)
        logging = _crosses(seen, config.log_every, config.batch_size) or step + 1 == steps
        saving = _crosses(seen, config.save_every, config.batch_size)
        if logging or saving:
            means = {n: (t[0] / t[1]).item() for n, t in sums.items()}
            for name, value in means.items():
                if not math.isfinite(value):
                    raise UserError(
                        f"{name} is {value} at step {step}; lower generator.learning_rate or raise "
                        f"generator.r1_gamma. The last checkpoint in {checkpoints.folder} is intact."
                    )
            if process.is_main_process:
                speed = (seen - mark) / (time.monotonic() - since)
                folder.log(seen, {**means, "images_per_second": speed})
                bar.set_postfix({n.split("/")[1]: f"{v:.2f}" for n, v in means.items()})
            sums, mark, since = {}, seen, time.monotonic()
        if measure and (
            _crosses(seen, config.frechet_every, config.batch_size) or step + 1 == steps
        ):
            distance = measure(average)
            folder.log(seen, {"frechet": distance})
            bar.write(f"Fréchet distance after {seen} images: {distance:.3f}")
        if saving and process.is_main_process:
            checkpoints.save(
                step + 1,
                {
                    "step": step + 1,
                    "p": adaptation.p,
                    "generator": generator.state_dict(),
                    "discriminator": discriminator.state_dict(),
                    "average": average.state_dict(),
                    "optimise_g": optimise_g.state_dict(),
                    "optimise_d": optimise_d.state_dict(),
                },
            )
            sheet = draw_sheet(average, seed=config.seed, count=64)
            save_sheet(sheet, folder.path / "samples.png")
            folder.tensorboard.add_image("samples", sheet, seen, dataformats="HWC")
    bar.close()

    # The result is the average; its own w_mean is taken afresh from it.
    if process.is_main_process:
        average.w_mean.copy_(mean_latent(average, seed=config.seed))
        save_generator(average, folder.path)
        save_sheet(draw_sheet(average, seed=config.seed, count=64), folder.path / "samples.png")
    return Result([WEIGHTS, ARCHITECTURE, "samples.png"], {"images": steps * config.batch_size})


def _groups(generator: Generator, config: GeneratorStage) -> list[dict[str, Any]]:
    """Parameters by learning rate."""
    strengths = [layer.get_parameter("noise_strength") for layer in generator.layers]
    others = [p for name, p in generator.named_parameters() if not name.endswith("noise_strength")]
    return [
        {"params": others},
        {"params": strengths, "lr": config.learning_rate * config.noise_lr_factor},
    ]


def _crosses(seen: int, every: int, batch: int) -> bool:
    """Whether the last batch passed a multiple of `every` images."""
    return seen // every != (seen - batch) // every


def _update(network: nn.Module, optimiser: torch.optim.Adam, loss: Tensor) -> None:
    """One optimiser step on the gradients averaged over ranks.

    Averaged by hand: one network runs several times per backward pass, and once under R1's second
    derivative, which wrappers for data parallelism do not expect.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if PartialState().num_processes > 1:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))
    optimiser.step()


@torch.no_grad()
def _follow(average: Generator, generator: Generator, keep: float) -> None:
    for mean, current in zip(average.parameters(), generator.parameters(), strict=True):
        mean.lerp_(current, 1 - keep)
    for kept, latest in zip(average.buffers(), generator.buffers(), strict=True):
        kept.copy_(latest)
