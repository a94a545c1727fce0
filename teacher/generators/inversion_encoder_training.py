"""Stage `inversion_encoder`: train a network that guesses the code of an image.

It learns from the generator's own samples, whose codes are known: nothing has to be drawn for the loss.
Step n sees the samples of (seed, n), so that an interrupted run goes on exactly where it was.

Shapes: B = images, D = length of a code, R = the generator's resolution.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from accelerate import PartialState
from torch import Tensor, nn
from tqdm import tqdm

from common.checkpoints import Checkpoints, save_weights
from common.errors import UserError
from common.files import write_json
from common.learner import Learner, require_finite, warmup_cosine
from common.normalisation import normalised_places
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
from teacher.generators.inversion_encoder import ARCHITECTURE, WEIGHTS, InversionEncoder
from teacher.generators.registry import load_generator
from teacher.generators.sampling import batch_workers, chunks, feature_floats, to_uint8

SHEET = "encoder.png"


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
    if config.batch_size == 1:
        for name, (_, places) in normalised_places(encoder, generator.resolution).items():
            if places == 1:
                raise UserError(
                    f"inversion_encoder.batch_size 1 gives batch normalisation a single value: the map of "
                    f"{name} has one place for an image of {generator.resolution} px; raise it."
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
