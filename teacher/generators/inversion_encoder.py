"""Stage `inversion_encoder`: a timm network that guesses the styles of a picture, a start for its inversion.

As in Richardson et al., "Encoding in Style" (2021), an image network gives offsets from w's mean. It learns
from the generator's own samples, whose styles are known: no picture has to be drawn for the loss. Step n
sees the samples of (seed, n), so that an interrupted run goes on exactly where it was.

Shapes: B = pictures, L = layers that take a style, D = length of a style, R = the generator's resolution.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from accelerate import PartialState
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoints import Checkpoints, load_weights, save_weights
from common.errors import UserError, require_counts
from common.files import read_json, write_json
from common.prefetch import ahead
from common.seeding import seed_everything, step_seed
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets.sheets import Picture, as_picture, grid, save_sheet
from teacher.generators.inversion import psnr
from teacher.generators.registry import load_generator
from teacher.generators.sampling import chunks, floats_of_features, side_by_side, to_uint8
from teacher.generators.stylegan2.network import Generator

WEIGHTS = "encoder.safetensors"
ARCHITECTURE = "encoder.json"
PICTURE = "encoder.png"
_LARGEST = 256  # side of the pictures that the network sees, at most


@dataclass(frozen=True)
class InversionEncoderStage:
    """Stage `inversion_encoder`.

    Args:
        images: length of the training in samples; 0 for no encoder.
        backbone: name of a timm model.
        pretrained: start from timm's weights (downloads them the first time).
        batch_size: samples a step.
        learning_rate: AdamW's peak learning rate, after a linear warm-up and before a cosine to zero.
        ema_decay: decay of the moving average of the weights, which is what is evaluated and kept.
        val_images: samples for validation.
        val_every: steps between validations, each with a checkpoint.
    """

    images: int = 0
    backbone: str = "resnet10t"
    pretrained: bool = False
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    grad_clip_norm: float = 1.0
    ema_decay: float = 0.99
    val_images: int = 64
    val_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts("inversion_encoder", self, "batch_size", "val_images", "val_every")


class Batch(NamedTuple):
    """Samples of the generator: pictures, uint8 [B, 3, R, R], and the style of each, [B, D]."""

    pictures: Tensor
    w: Tensor


class Encoder(nn.Module):
    """Pictures [B, 3, R, R], uint8 or float in [0, 255] -> one style for each, [B, D].

    Args:
        network: name of a timm model.
        resolution: R.
        w_mean, deviation: of the generator's w, [D].

    Raises:
        UserError: there is no such network, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor
    w_mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: str,
        resolution: int,
        w_mean: Tensor,
        deviation: Tensor,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.side = min(resolution, _LARGEST)
        self.network = _build(network, len(w_mean), self.side, pretrained)
        about = getattr(self.network, "pretrained_cfg", None) or {}
        for name, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            value = 255 * torch.tensor(about.get(name, default)).view(3, 1, 1)
            self.register_buffer(name, value)
        self.register_buffer("w_mean", w_mean.clone())
        self.register_buffer("deviation", deviation.clone())

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.float() - self.mean) / self.std
        if x.shape[-1] > self.side:
            x = F.adaptive_avg_pool2d(x, self.side)
        return self.w_mean + self.deviation * self.network(x)


def _build(name: str, outputs: int, side: int, pretrained: bool) -> nn.Module:
    """A timm network from pictures to so many numbers; errors name the option and the remedy."""
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=outputs)
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"inversion_encoder.backbone {name!r} cannot be built for pictures of {side} px ({error}); see "
            "timm.list_models() for names of convolutional networks."
        ) from error
    except OSError as error:
        raise UserError(
            f"the weights of {name!r} cannot be downloaded ({type(error).__name__}): go online once to "
            "fill timm's cache, or set inversion_encoder.pretrained false."
        ) from error
    return network.train()


def load_encoder(folder: Path, generator: Generator, source: str) -> Encoder:
    """Read a trained encoder for guessing.

    Args:
        source: hash of the generator's artefact.

    Raises:
        UserError: a file is missing or damaged, or the encoder belongs to another generator.
    """
    about = read_json(folder / ARCHITECTURE)
    if about["generator"] != source:
        raise UserError(
            f"{folder} was trained on another generator; run `train.py inversion_encoder` with this one."
        )
    blank = torch.zeros(generator.config.w_dim)
    encoder = Encoder(about["network"], generator.config.resolution, blank, blank)
    load_weights(encoder, folder / WEIGHTS, "run `inversion_encoder` again")
    return encoder.eval().requires_grad_(False).to(generator.w_mean.device)


def train_encoder(config: InversionEncoderStage, folder: StageFolder) -> Result:
    """Run the stage: writes `encoder.safetensors`, `encoder.json` and `encoder.png`.

    Reads the input `generator`. The work is small: the main process does it, the others wait.
    """
    if config.images < config.batch_size:
        raise UserError(
            f"inversion_encoder.images is {config.images}, less than a batch ({config.batch_size}): say how many "
            "samples it learns from, as in --inversion_encoder.images 16000."
        )
    if not PartialState().is_main_process:
        return Result([], {})
    device = PartialState().device
    generator = load_generator(folder.inputs["generator"], device)
    steps = config.images // config.batch_size
    held_back = draw_batch(generator, config.val_images, config.seed, -1)
    learner = _Learner(config, generator)

    checkpoints, first = Checkpoints(folder.checkpoints), 0
    if state := checkpoints.newest():
        first = state["step"]
        learner.load(state)
        print(f"inversion_encoder: resumed at step {first}")

    def fresh(step: int) -> Batch:
        return draw_batch(generator, config.batch_size, config.seed, step)

    bar = tqdm(
        total=steps * config.batch_size,
        initial=first * config.batch_size,
        desc="inversion_encoder",
        unit="img",
    )
    lost = 0.0
    room = 16 * config.batch_size * floats_of_features(generator)
    with side_by_side(device, room) as (workers, count):
        batches = ahead(workers, fresh, range(first, steps), count)
        for step, batch in enumerate(batches, first):
            lost += learner.step(step, batch)
            done = step + 1
            bar.update(config.batch_size)
            if done % config.val_every and done != steps:
                continue

            # Validate the average, log, save.
            figures = evaluate_encoder(generator, learner.average, held_back)
            loss = lost / min(done - first, step % config.val_every + 1)
            folder.log(done, {"loss": loss, **{f"held_back/{k}": v for k, v in figures.items()}})
            bar.set_postfix(loss=f"{loss:.3f}", psnr=f"{figures['psnr']:.1f} dB")
            checkpoints.save(done, {"step": done, **learner.state()})
            lost = 0.0
    bar.close()

    figures = evaluate_encoder(generator, learner.average, held_back)
    save_sheet(_show(generator, learner.average, held_back), folder.path / PICTURE)
    save_weights(folder.path / WEIGHTS, learner.average.state_dict())
    source = artifact_hash(folder.inputs["generator"])
    write_json(folder.path / ARCHITECTURE, {"network": config.backbone, "generator": source})
    return Result([WEIGHTS, ARCHITECTURE, PICTURE], figures)


@torch.no_grad()
def draw_batch(generator: Generator, count: int, *numbers: int) -> Batch:
    """Fresh samples, a function of the numbers; it leaves the global random state alone."""
    device = generator.w_mean.device
    state = torch.Generator(device).manual_seed(step_seed(*numbers))
    z = torch.randn(count, generator.config.latent_size, generator=state, device=device)
    w, pictures = generator.mapping(z), []
    for some in chunks(generator, range(count)):
        noise = [
            torch.randn(len(some), 1, *shape, generator=state, device=device)
            for shape in generator.noise_shapes
        ]
        pictures.append(to_uint8(generator.synthesis(w[some], noise)[0]))
    return Batch(torch.cat(pictures), w)


class _Learner:
    """The encoder while it learns: weights, their moving average, the optimiser."""

    def __init__(self, config: InversionEncoderStage, generator: Generator) -> None:
        self.config, device = config, generator.w_mean.device
        seed_everything(config.seed)
        with torch.no_grad():
            z = torch.randn(4096, generator.config.latent_size).to(device)
            deviation = generator.mapping(z).std(0)
        encoder = Encoder(
            config.backbone, generator.config.resolution, generator.w_mean, deviation,
            config.pretrained,
        )  # fmt: skip
        self.encoder = encoder.to(device).to(memory_format=torch.channels_last)
        self._average = ModelEmaV3(self.encoder, decay=config.ema_decay, use_warmup=True)
        self.optimiser = torch.optim.AdamW(
            self.encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )

    @property
    def average(self) -> Encoder:
        return self._average.module

    def step(self, step: int, batch: Batch) -> float:
        """Learn from a batch; gives the loss, the squared distance in units of w's deviation.

        Raises:
            UserError: the loss is not finite.
        """
        config, encoder = self.config, self.encoder
        seed_everything(config.seed, step)
        warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
        fall = 0.5 + 0.5 * math.cos(math.pi * step / (config.images // config.batch_size))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * warm * fall
        loss = _distance(encoder.train(), batch)
        if not torch.isfinite(loss):
            raise UserError(
                f"the inversion encoder's loss is {loss.item()} at step {step}; lower inversion_encoder.learning_rate. The last "
                "checkpoint is intact."
            )
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), config.grad_clip_norm)
        self.optimiser.step()
        self._average.update(encoder, step=step)
        return loss.item()

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from."""
        return {
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.encoder.load_state_dict(state["encoder"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def _distance(encoder: Encoder, batch: Batch) -> Tensor:
    guess = encoder(batch.pictures.to(memory_format=torch.channels_last))
    return ((guess - batch.w) / encoder.deviation).square().mean()


@torch.no_grad()
def evaluate_encoder(generator: Generator, encoder: Encoder, samples: Batch) -> dict[str, float]:
    """Distance in w, root mean square in its deviations, and PSNR in dB of what the guesses draw."""
    encoder.eval()
    drawn = _redraw(generator, encoder, samples.pictures)
    distance = _distance(encoder, samples).sqrt()
    return {"distance": float(distance), "psnr": float(psnr(drawn, samples.pictures).mean())}


def _redraw(generator: Generator, encoder: Encoder, pictures: Tensor) -> Tensor:
    """What the generator draws of the guesses, with constant noise, [B, 3, R, R] in [-1, 1]."""
    w, noise = encoder(pictures), generator.constant_noise()
    parts = [generator.synthesis(w[some], noise)[0] for some in chunks(generator, range(len(w)))]
    return torch.cat(parts)


@torch.no_grad()
def _show(generator: Generator, encoder: Encoder, samples: Batch, shown: int = 12) -> Picture:
    """The first samples beside what their guesses draw."""
    few = samples.pictures[:shown]
    columns = {"sample": few, "guessed": to_uint8(_redraw(generator, encoder, few))}
    return grid({name: [*map(as_picture, images)] for name, images in columns.items()})
