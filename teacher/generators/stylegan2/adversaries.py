"""A generator and its discriminator while they learn from each other: losses and updates of one step.

After Karras et al. (2020): non-saturating logistic loss (Goodfellow et al., 2014), lazy R1 regularisation
(Mescheder et al., 2018), Adam with betas (0, 0.99), a moving average of the generator's weights.

Shapes: B = images per step of this process, R = resolution, D = length of w.
"""

from typing import Any

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn

from common.seeding import seed_everything
from teacher.generators.stylegan2.ada import Adaptation, augment
from teacher.generators.stylegan2.discriminator import Discriminator
from teacher.generators.stylegan2.network import Generator
from teacher.generators.stylegan2.options import GeneratorStage
from teacher.generators.stylegan2.rules import Rates
from teacher.generators.stylegan2.start import Start

Losses = dict[str, Tensor]  # name in the metrics -> a number
_ALONE_RATE, _ALONE_WARMUP = 3e-3, 100  # of a discriminator that learns alone: learning rate, steps


def rates_of(config: GeneratorStage, start: Start | None) -> Rates:
    """The numbers that a training from a start, or from nothing, goes by."""
    alone = start is not None and start.discriminator is None
    return Rates.of(config, started=start is not None, alone=alone)


class Adversaries:
    """Both networks, their optimisers and the moving average: everything that a training goes on from.

    Args:
        rates: numbers that the training goes by; none for those by rule.
        start: networks to begin with; none for random weights.

    Attributes:
        average: the moving average of the generator, which is the result.
    """

    def __init__(
        self,
        config: GeneratorStage,
        device: torch.device,
        start: Start | None = None,
        rates: Rates | None = None,
    ) -> None:
        self.config, self.device, self.start = config, device, start
        self.rates = rates = rates or rates_of(config, start)
        self.waits = rates.wait_images // config.batch_size  # steps
        seed_everything(config.seed)  # every process begins with the same weights
        self.generator = Generator(config.network).to(device)
        self.discriminator = Discriminator(config.network.channels).to(device)
        self.average = Generator(config.network).to(device).requires_grad_(False)
        self.average.load_state_dict(self.generator.state_dict())
        if start:
            self.generator.load_state_dict(start.generator)
            self.average.load_state_dict(start.average)
            if start.discriminator:
                self.discriminator.load_state_dict(start.discriminator)
        for network in (self.generator, self.discriminator, self.average):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.path_length = torch.zeros((), device=device)
        self.adaptation = Adaptation(config.ada_target, rates.ada_images)
        self.optimise_g = torch.optim.Adam(
            _groups(self.generator, rates.learning_rate, config.noise_lr_factor),
            rates.learning_rate,
            (0.0, 0.99),
            eps=1e-8,
        )
        self.optimise_d = torch.optim.Adam(self.discriminator.parameters(), eps=1e-8)

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from."""
        return {
            "network": self.average.config.to_json(),
            "ancestors": list(self.start.ancestors) if self.start else [],
            "p": self.adaptation.p,
            "path_length": self.path_length,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "optimise_g": self.optimise_g.state_dict(),
            "optimise_d": self.optimise_d.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.adaptation.p = state["p"]
        self.path_length.copy_(state["path_length"])
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.load_state_dict(state["average"])
        self.optimise_g.load_state_dict(state["optimise_g"])
        self.optimise_d.load_state_dict(state["optimise_d"])

    def step(self, real: Tensor, step: int) -> Losses:
        """Learn from real images [B, 3, R, R] in [-1, 1]; draws from the global random state."""
        waiting = step < self.waits
        self._set_discriminator_rate(step)
        plain, real = real, augment(real, self.adaptation.p)

        # The generator runs once for both updates.
        with self._autocast(), torch.set_grad_enabled(not waiting):
            fake, w = self._draw(len(real))
            fake = augment(fake, self.adaptation.p)

        losses = self._update_discriminator(real, fake.detach())
        if step % self.config.r1_every == 0:
            losses |= self._penalise_slope(plain)
        if waiting:
            return losses
        losses |= self._update_generator(fake)
        if self.config.path_length_weight and step % self.config.path_length_every == 0:
            losses |= self._even_out_paths(len(real))
        self._update_average(w, step)
        return losses

    def _set_discriminator_rate(self, step: int) -> None:
        """Learning rate and momenta of the discriminator.

        While it learns alone nobody works against it: it is a classifier in training, which momentum helps.
        Its rate rises slowly, since the first steps of Adam are of full length.
        """
        every = self.config.r1_every
        lazy = every / (every + 1)  # R1's updates are more steps of Adam
        rate, betas = self.rates.discriminator_learning_rate, (0.0, 0.99)
        if step < self.waits:
            rate, betas = _ALONE_RATE * min(1.0, (step + 1) / _ALONE_WARMUP), (0.9, 0.999)
        for group in self.optimise_d.param_groups:
            group["lr"] = rate * lazy
            group["betas"] = (betas[0], betas[1] ** lazy)

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Images [B, 3, R, R] of fresh latents, and their w [B, D]."""
        generator, size = self.generator, self.config.network.latent_size
        w = generator.mapping(torch.randn(count, size, device=self.device))
        styles = w
        if self.config.style_mixing:
            other = generator.mapping(torch.randn(count, size, device=self.device))
            styles = mix_styles(w, other, generator.style_count, self.config.style_mixing)
        return generator.synthesis(styles, generator.random_noise(count))[0], w

    def _update_discriminator(self, real: Tensor, fake: Tensor) -> Losses:
        """Discriminator: logits of real images up, of generated ones down."""
        with self._autocast():
            score_fake, score_real = self.discriminator(fake), self.discriminator(real)
            loss = F.softplus(score_fake).mean() + F.softplus(-score_real).mean()
        sign = score_real.detach().sign().float().mean()
        losses = {"loss/d": loss, "score/real": score_real.mean(), "score/fake": score_fake.mean()}
        losses["score/sign"] = sign
        _update(self.discriminator, self.optimise_d, loss)
        if self.config.ada:
            sign = reduce(sign, "mean")
            self.adaptation.follow(float(sign), self.config.batch_size)
            losses["augment/p"] = torch.tensor(self.adaptation.p, device=self.device)
        return losses

    def _penalise_slope(self, real: Tensor) -> Losses:
        """R1: the squared gradient of the logits by real images, before these are augmented.

        Done seldom, so it weighs more.
        """
        real = real.detach().requires_grad_(True)
        logits = self.discriminator(augment(real, self.adaptation.p))
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = slope.square().sum((1, 2, 3)).mean()
        loss = penalty * (self.rates.r1_gamma / 2 * self.config.r1_every)
        _update(self.discriminator, self.optimise_d, loss)
        return {"loss/r1": penalty}

    def _update_generator(self, fake: Tensor) -> Losses:
        """Generator: logits of its images up."""
        self.discriminator.requires_grad_(False)
        with self._autocast():
            loss = F.softplus(-self.discriminator(fake)).mean()
        _update(self.generator, self.optimise_g, loss)
        self.discriminator.requires_grad_(True)
        return {"loss/g": loss}

    def _even_out_paths(self, count: int) -> Losses:
        """Path length regularisation, on half as many images; done seldom, so it weighs more.

        The length is that of the gradient of the image, weighted by noise, by w; it is drawn to its mean.
        """
        generator, count = self.generator, max(count // 2, 1)
        z = torch.randn(count, self.config.network.latent_size, device=self.device)
        styles = generator.mapping(z).unsqueeze(1).repeat(1, generator.style_count, 1)
        image = generator.synthesis(styles, generator.random_noise(count))[0]
        noise = torch.randn_like(image) / image.shape[-1]
        (slope,) = torch.autograd.grad((image * noise).sum(), styles, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        self.path_length.lerp_(reduce(lengths.detach().mean(), "mean"), 0.01)
        penalty = (lengths - self.path_length).square().mean()
        every = self.config.path_length_every
        _update(generator, self.optimise_g, penalty * self.config.path_length_weight * every)
        return {"loss/path": penalty, "path/length": self.path_length.clone()}

    def _update_average(self, w: Tensor, step: int) -> None:
        """Moving averages of w [B, D] and of the weights; short at first, to forget random weights."""
        mean_w, known = reduce(w.detach().float().mean(0), "mean"), self.start is not None
        self.generator.w_mean.lerp_(mean_w, 0.002 if step > 1000 or known else 0.02)
        seen, half_life = (step + 1) * self.config.batch_size, self.rates.ema_images
        if not known:
            half_life = min(half_life, max(seen * 0.05, 1))
        _follow(self.average, self.generator, 0.5 ** (self.config.batch_size / half_life))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        )


def mix_styles(first: Tensor, second: Tensor, layers: int, probability: float) -> Tensor:
    """Styles [B, L, D] of w [B, D]: with this probability, those of `second` from a random layer on."""
    count, device = len(first), first.device
    begins = torch.randint(1, layers, (count, 1), device=device)
    begins = begins.where(torch.rand(count, 1, device=device) < probability, layers)
    others = torch.arange(layers, device=device) >= begins
    return torch.where(others.unsqueeze(2), second.unsqueeze(1), first.unsqueeze(1))


def _groups(generator: Generator, rate: float, noise_factor: float) -> list[dict[str, Any]]:
    """Parameters by learning rate."""
    strengths = [layer.get_parameter("noise_strength") for layer in generator.layers]
    others = [p for name, p in generator.named_parameters() if not name.endswith("noise_strength")]
    return [
        {"params": others},
        {"params": strengths, "lr": rate * noise_factor},
    ]


def _update(network: nn.Module, optimiser: torch.optim.Adam, loss: Tensor) -> None:
    """One optimiser step on the gradients averaged over processes.

    They are averaged here and not by DistributedDataParallel, which does not support a network that runs
    several times per backward pass, nor R1's second derivative.
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
