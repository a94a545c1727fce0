"""Stage `inversion_encoder`: a timm network that guesses the code of an image, a start for its inversion.

As in Richardson et al., "Encoding in Style" (2021), an image network gives offsets from the mean code. It
learns from the generator's own samples, whose codes are known: nothing has to be drawn for the loss. Step n
sees the samples of (seed, n), so that an interrupted run goes on exactly where it was.

Shapes: B = images, D = length of a code, R = the generator's resolution.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import timm
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoints import Checkpoints, load_weights, save_weights
from common.errors import UserError
from common.files import read_json, write_json
from common.learner import Learner, require_finite, warmup_cosine
from common.options import require_counts
from common.prefetch import prefetch
from common.seeding import seed_everything, step_seed
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets.sheets import ImageArray, grid, save_sheet, to_array
from teacher.generators.base import (
    FeatureGenerator,
    code_vectors,
    mean_latents,
    take,
    with_fresh_noise,
)
from teacher.generators.image_distance import psnr
from teacher.generators.registry import load_generator
from teacher.generators.sampling import batch_workers, chunks, feature_floats, to_uint8

WEIGHTS = "encoder.safetensors"
ARCHITECTURE = "encoder.json"
SHEET = "encoder.png"
_LARGEST = 256  # side of the images that the network sees, at most


@dataclass(frozen=True)
class InversionEncoderStage:
    """Stage `inversion_encoder`.

    Args:
        images: length of the training in samples; 0 for no encoder.
        backbone: name of a convolutional timm model.
        pretrained: start from timm's weights; they are downloaded the first time.
        batch_size: samples per step.
        learning_rate: AdamW's peak learning rate, after a linear warm-up and before a cosine to zero.
        weight_decay: AdamW's weight decay.
        warmup_steps: steps in which the learning rate rises.
        grad_clip_norm: largest norm of a step's gradient.
        ema_decay: decay of the moving average of the weights, which is what is validated and kept.
        val_images: samples kept from training, for validation.
        val_every: steps between validations, each with a checkpoint.
        seed: seed of the samples and the initial weights.
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
    """Samples of the generator: images, uint8 [B, 3, R, R], and the code of each, [B, D]."""

    images: Tensor
    codes: Tensor


class InversionEncoder(nn.Module):
    """Images [B, 3, R, R], uint8 or float in [0, 255] -> one code for each, [B, D].

    Args:
        backbone: name of a timm model.
        resolution: R.
        w_mean, deviation: mean and standard deviation of the generator's codes, [D].
        pretrained: start from timm's weights.

    Raises:
        UserError: there is no such network, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor
    w_mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: str,
        resolution: int,
        w_mean: Tensor,
        deviation: Tensor,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.side = min(resolution, _LARGEST)
        self.network = _build(backbone, len(w_mean), self.side, pretrained)
        about = getattr(self.network, "pretrained_cfg", None) or {}
        for name, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            value = 255 * torch.tensor(about.get(name, default)).view(3, 1, 1)
            self.register_buffer(name, value)
        self.register_buffer("w_mean", w_mean.clone())
        self.register_buffer("deviation", deviation.clone())

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean) / self.std
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
            f"inversion_encoder.backbone {name!r} cannot be built for images of {side} px ({error}); see "
            "timm.list_models() for names of convolutional networks."
        ) from error
    except OSError as error:
        raise UserError(
            f"the weights of {name!r} cannot be downloaded ({type(error).__name__}): go online once to "
            "fill timm's cache, or set inversion_encoder.pretrained false."
        ) from error
    return network.train()


def load_inversion_encoder(
    folder: Path, generator: FeatureGenerator, source: str
) -> InversionEncoder:
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
    blank = torch.zeros(mean_latents(generator)[generator.code].shape[-1])
    encoder = InversionEncoder(about["network"], generator.resolution, blank, blank)
    load_weights(encoder, folder / WEIGHTS, "run `inversion_encoder` again")
    return encoder.eval().requires_grad_(False).to(generator.device)


def train_inversion_encoder(config: InversionEncoderStage, folder: StageFolder) -> Result:
    """Run the stage: writes `encoder.safetensors`, `encoder.json` and `encoder.png`.

    Reads the input `generator`. The work is small: the main process does it, the others wait.

    Raises:
        UserError: there are fewer images than a batch holds, or the loss is not finite.
    """
    if config.images < config.batch_size:
        raise UserError(
            f"inversion_encoder.images is {config.images}, less than a batch ({config.batch_size}): say "
            "how many samples it learns from, as in --inversion_encoder.images 16000."
        )
    if not PartialState().is_main_process:
        return Result([], {})
    generator = load_generator(folder.inputs["generator"], PartialState().device)
    val = draw_batch(generator, config.val_images, config.seed, -1)
    learner = _start_learner(config, generator)
    _train(config, generator, learner, val, folder)

    encoder = cast(InversionEncoder, learner.average)
    figures = evaluate_inversion_encoder(generator, encoder, val)
    save_sheet(_show(generator, encoder, val), folder.path / SHEET)
    save_weights(folder.path / WEIGHTS, encoder.state_dict())
    source = artifact_hash(folder.inputs["generator"])
    write_json(folder.path / ARCHITECTURE, {"network": config.backbone, "generator": source})
    return Result([WEIGHTS, ARCHITECTURE, SHEET], figures)


def _start_learner(config: InversionEncoderStage, generator: FeatureGenerator) -> Learner:
    """An encoder before its first step."""
    seed_everything(config.seed)
    z = torch.randn(4096, generator.z_size)
    codes = code_vectors(generator, generator.latents(generator.inputs_of_z(z), 1.0))
    mean = code_vectors(generator, mean_latents(generator))[0]
    encoder = InversionEncoder(
        config.backbone, generator.resolution, mean, codes.std(0), config.pretrained
    )
    encoder = encoder.to(generator.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    return Learner(encoder, optimiser, config.ema_decay)


def _train(
    config: InversionEncoderStage,
    generator: FeatureGenerator,
    learner: Learner,
    val: Batch,
    folder: StageFolder,
) -> None:
    """All steps, with a validation and a checkpoint now and then; goes on where it was cut off."""
    steps, first = config.images // config.batch_size, 0
    checkpoints = Checkpoints(folder.checkpoints)
    if state := checkpoints.newest():
        first = state["step"]
        learner.load(state)
        print(f"inversion_encoder: resumed at step {first}")

    def draw(step: int) -> Batch:
        return draw_batch(generator, config.batch_size, config.seed, step)

    bar = tqdm(
        total=steps * config.batch_size, initial=first * config.batch_size, unit="img",
        desc="inversion_encoder",
    )  # fmt: skip
    sum_loss = 0.0
    batch_bytes = 16 * config.batch_size * feature_floats(generator)
    with batch_workers(generator.device, batch_bytes) as (workers, count):
        batches = prefetch(workers, draw, range(first, steps), count)
        for step, batch in enumerate(batches, first):
            sum_loss += _step(config, learner, step, batch)
            done = step + 1
            bar.update(config.batch_size)
            if done % config.val_every and done != steps:
                continue

            # Validate the average, log, save.
            encoder = cast(InversionEncoder, learner.average)
            figures = evaluate_inversion_encoder(generator, encoder, val)
            loss = sum_loss / min(done - first, step % config.val_every + 1)
            folder.log(done, {"loss": loss, **{f"validation/{k}": v for k, v in figures.items()}})
            bar.set_postfix(loss=f"{loss:.3f}", psnr=f"{figures['psnr']:.1f} dB")
            checkpoints.save(done, {"step": done, **learner.state()})
            sum_loss = 0.0
    bar.close()


def _step(config: InversionEncoderStage, learner: Learner, step: int, batch: Batch) -> float:
    """Learn from a batch; gives the loss, the mean squared distance in units of the codes' deviation."""
    seed_everything(config.seed, step)
    steps = config.images // config.batch_size
    rate = warmup_cosine(config.learning_rate, step, steps, config.warmup_steps)
    learner.set_learning_rate(rate)
    encoder = cast(InversionEncoder, learner.network.train())
    loss = _distance(encoder, batch)
    remedy = "lower inversion_encoder.learning_rate"
    require_finite(loss, "the inversion encoder", step, remedy)
    loss.backward()
    nn.utils.clip_grad_norm_(encoder.parameters(), config.grad_clip_norm)
    learner.update(step)
    return loss.item()


@torch.no_grad()
def draw_batch(generator: FeatureGenerator, count: int, *numbers: int) -> Batch:
    """Fresh samples, a function of the numbers; it leaves the global random state alone."""
    device = generator.device
    state = torch.Generator(device).manual_seed(step_seed(*numbers))
    z = torch.randn(count, generator.z_size, generator=state, device=device)
    latents, images = generator.latents(generator.inputs_of_z(z), 1.0), []
    for some in chunks(generator, range(count)):
        part = with_fresh_noise(take(latents, some), state)
        images.append(to_uint8(generator.synthesise(part)[0]))
    return Batch(torch.cat(images), code_vectors(generator, latents))


def _distance(encoder: InversionEncoder, batch: Batch) -> Tensor:
    guess = encoder(batch.images.to(memory_format=torch.channels_last))
    return ((guess - batch.codes) / encoder.deviation).square().mean()


@torch.no_grad()
def evaluate_inversion_encoder(
    generator: FeatureGenerator, encoder: InversionEncoder, samples: Batch
) -> dict[str, float]:
    """Root mean square distance in deviations of the codes, and PSNR in dB of what the guesses draw."""
    encoder.eval()
    drawn = _redraw(generator, encoder, samples.images)
    distance = _distance(encoder, samples).sqrt()
    return {"distance": float(distance), "psnr": float(psnr(drawn, samples.images).mean())}


def _redraw(generator: FeatureGenerator, encoder: InversionEncoder, images: Tensor) -> Tensor:
    """What the generator draws of the guesses, with constant noise, [B, 3, R, R] in [-1, 1]."""
    codes, constant = encoder(images), mean_latents(generator)
    if layers := len(generator.layer_sides):
        codes = codes.unsqueeze(1).expand(-1, layers, -1)
    parts = []
    for some in chunks(generator, range(len(codes))):
        latents = {k: t.expand(len(some), *t.shape[1:]) for k, t in constant.items()}
        parts.append(generator.synthesise(latents | {generator.code: codes[some]})[0])
    return torch.cat(parts)


@torch.no_grad()
def _show(
    generator: FeatureGenerator, encoder: InversionEncoder, samples: Batch, count: int = 12
) -> ImageArray:
    """The first samples beside what their guesses draw."""
    few = samples.images[:count]
    columns = {"sample": few, "guessed": to_uint8(_redraw(generator, encoder, few))}
    return grid({name: [*map(to_array, images)] for name, images in columns.items()})
