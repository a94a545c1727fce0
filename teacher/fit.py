"""Stage `teacher`: fit FewShotCNN to a handful of annotated samples."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from common.checkpoints import Checkpoints, save_weights
from common.confusion import confusion_matrix, iou_figures
from common.errors import UserError, require_counts
from common.files import write_json
from common.losses import cross_entropy, dice
from common.seeding import seed_everything
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets.annotations import Samples, pick, read_samples
from datasets.labels import LabelSet
from datasets.sheets import Picture, as_picture, grid, save_sheet
from teacher.fewshot import ARCHITECTURE, WEIGHTS, FewShotCNN, FewShotConfig, describe
from teacher.generators.registry import load_generator
from teacher.generators.sampling import chunks, feature_deviations
from teacher.generators.stylegan2.network import Generator

PICTURE = "predictions.png"


@dataclass(frozen=True)
class TeacherStage:
    """Stage `teacher`. The defaults are the seed report's recipe.

    Args:
        network: the architecture.
        shots: how many of the annotated samples to learn from; 0 for all.
        shots_seed: seed of a random choice of these; none for the first ones.
        epochs: passes over the annotated samples; one step per sample.
        learning_rate: Adam's learning rate, divided by ten after `decay_after` epochs.
        dice_weight: weight of the Dice loss beside cross-entropy.
        flip: probability that features and mask are mirrored.
        standardise: learn in features of unit deviation, as random samples have them; the finished teacher
            reads the features as they are.
        grad_clip_norm: largest norm of a step's gradient; steps see one sample each, and a single outlier can throw a
            teacher at a high rate out of what it has learned. 0 for none.
        fresh_noise: draw new noise inputs at every step: the same face, other details.
        style_mixing_from: from this resolution on, take the styles of a random other face at every step: the
            same shape in other colours. 0 switches it off.
        val_every: epochs between two evaluations on the annotated test samples, or, where there
            are none, on the samples it is fitted to.
    """

    network: FewShotConfig = FewShotConfig()
    shots: int = 0
    shots_seed: int | None = None
    epochs: int = 100
    learning_rate: float = 1e-3
    lr_decay_epoch: int = 50
    weight_decay: float = 1e-3
    dice_weight: float = 0.0
    flip: float = 0.0
    standardise: bool = False
    grad_clip_norm: float = 1.0
    fresh_noise: bool = False
    style_mixing_from: int = 0
    val_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts("teacher", self, "epochs", "val_every")


def fit_teacher(config: TeacherStage, folder: StageFolder) -> Result:
    """Run the stage: writes `teacher.safetensors`, `teacher.json` and `predictions.png`.

    Reads the inputs `generator`, `annotations`, `labels` and, if there is one, `test_annotations`.
    The work is small: the main process does it, the others wait.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    device = PartialState().device
    labels = LabelSet.load(folder.inputs["labels"])
    generator = load_generator(folder.inputs["generator"], device)
    source = artifact_hash(folder.inputs["generator"])
    samples, masks = read_samples(folder.inputs["annotations"], labels, source)
    chosen = pick(len(samples), config.shots, config.shots_seed)
    samples, masks = samples.take(chosen), masks[chosen]
    tests, truths, kind = samples, masks, "its own samples"
    if path := folder.inputs.get("test_annotations"):
        tests, truths = read_samples(path, labels, source)
        kind = "generated"

    seed_everything(config.seed)
    teacher = FewShotCNN(
        config.network, generator.features, generator.config.resolution, len(labels)
    ).to(device)
    if config.standardise:
        teacher.balance(feature_deviations(generator, config.seed))
    optimiser = torch.optim.Adam(
        teacher.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    if state := checkpoints.newest():
        first = state["epoch"]
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
        print(f"teacher: resumed at epoch {first}")

    for epoch in (bar := tqdm(range(first, config.epochs), desc="teacher", unit="epoch")):
        seed_everything(config.seed, epoch)
        order = torch.randperm(len(samples)).tolist()
        shots = (
            (training_features(generator, samples.take([i]), config), masks[[i]]) for i in order
        )
        loss = learn(teacher, optimiser, config, epoch, shots, labels.ignore_index)

        metrics = {"loss": loss, "rate": optimiser.param_groups[0]["lr"]}
        last = epoch + 1 == config.epochs
        if (epoch + 1) % config.val_every == 0 or last:
            figures = evaluate_teacher(generator, teacher, tests, truths, labels)
            metrics |= {"miou": figures["miou"]}
            metrics |= {f"iou/{name}": value for name, value in figures["iou"].items()}
            bar.set_postfix(loss=f"{metrics['loss']:.3f}", miou=f"{figures['miou']:.3f}")
            state = {"teacher": teacher.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoints.save(epoch + 1, {"epoch": epoch + 1, **state})
        folder.log(epoch + 1, metrics)

    teacher.settle()
    figures = evaluate_teacher(generator, teacher, tests, truths, labels)
    save_sheet(_show(generator, teacher, tests, truths, labels), folder.path / PICTURE)
    save_weights(folder.path / WEIGHTS, teacher.state_dict())
    write_json(folder.path / ARCHITECTURE, describe(teacher, labels.names, chosen))
    return Result([WEIGHTS, ARCHITECTURE, PICTURE], {kind: figures})


def learn(
    teacher: FewShotCNN,
    optimiser: torch.optim.Optimizer,
    config: TeacherStage,
    epoch: int,
    shots: Iterable[tuple[Sequence[Tensor], Tensor]],
    ignore_index: int,
) -> float:
    """A step for each sample: its feature maps, and its mask uint8 [1, S, S]. Gives the mean loss.

    Raises:
        UserError: the loss is not finite.
    """
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * (0.1 if epoch >= config.lr_decay_epoch else 1.0)
    teacher.train()
    losses = []
    for features, mask in shots:
        target = mask.long().to(teacher.first.weight.device)
        if torch.rand(()) < config.flip:
            features, target = [f.flip(-1) for f in features], target.flip(-1)
        weight = torch.ones_like(target, dtype=torch.float32)
        # Summed, so that every member learns as if it were alone.
        loss = torch.zeros((), device=target.device)
        for logits in teacher(features).unbind(1):
            loss = loss + cross_entropy(logits, target, weight, ignore_index)
            if config.dice_weight:
                loss = loss + config.dice_weight * dice(logits, target, weight, ignore_index)
        optimiser.zero_grad()
        loss.backward()
        if config.grad_clip_norm:
            clip_members(teacher, config.grad_clip_norm)
        optimiser.step()
        losses.append(loss.item() / config.network.members)
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise UserError(
            f"the teacher's loss is {mean} in epoch {epoch}; lower teacher.learning_rate."
        )
    return mean


@torch.no_grad()
def clip_members(teacher: FewShotCNN, largest: float) -> None:
    """Shorten the gradient of every member of an ensemble to a norm, each as if it were alone."""
    gradients = [
        p.grad.view(teacher.config.members, -1) for p in teacher.parameters() if p.grad is not None
    ]
    norms = torch.stack([g.norm(dim=1) for g in gradients]).norm(dim=0)
    share = (largest / norms.clamp_min(1e-12)).clamp_max(1)
    for gradient in gradients:
        gradient *= share[:, None]


def _show(
    generator: Generator, teacher: FewShotCNN, tests: Samples, truths: Tensor, labels: LabelSet
) -> Picture:
    """The first test samples beside truth and teacher."""
    few = tests.take(list(range(min(8, len(tests)))))
    masks = predict_samples(generator, teacher, few)
    return grid(
        {
            "sample": [as_picture(image) for image in few.images],
            "truth": [labels.paint(mask.numpy()) for mask in truths[: len(few)]],
            "teacher": [labels.paint(mask.numpy()) for mask in masks],
        },
        labels,
    )


@torch.no_grad()
def training_features(generator: Generator, samples: Samples, config: TeacherStage) -> list[Tensor]:
    """Features of annotated samples, varied in ways that leave their masks true."""
    device = generator.w_mean.device
    w, noise = samples.w.to(device), [n.to(device) for n in samples.noise]
    if config.fresh_noise:
        noise = generator.random_noise(len(w))
    if config.style_mixing_from:
        z = torch.randn(len(w), generator.config.latent_size, device=device)
        other = generator.mapping(z).unsqueeze(1)
        fine = [int(n.split(".")[0]) >= config.style_mixing_from for n in generator.feature_names]
        fine.append(True)  # the last style colours the image
        mixed = torch.tensor(fine, device=device)[None, :, None] & (torch.rand(()) < 0.5)
        w = torch.where(mixed, other, w)
    return generator.synthesis(w, noise)[1]


@torch.no_grad()
def predict_samples(generator: Generator, teacher: FewShotCNN, samples: Samples) -> Tensor:
    """Teacher's label maps of drawn samples from their true features, uint8 [N, R, R]."""
    device = generator.w_mean.device
    training, parts = teacher.training, []
    teacher.eval()
    for chunk in chunks(generator, list(range(len(samples)))):
        part = samples.take(chunk)
        _, features = generator.synthesis(part.w.to(device), [n.to(device) for n in part.noise])
        parts.append(teacher.probabilities(features).argmax(1).to(torch.uint8).cpu())
    teacher.train(training)
    return torch.cat(parts)


def evaluate_teacher(
    generator: Generator, teacher: FewShotCNN, tests: Samples, truths: Tensor, labels: LabelSet
) -> dict[str, Any]:
    """IoU figures on annotated samples."""
    predictions = predict_samples(generator, teacher, tests)
    return iou_figures(confusion_matrix(truths, predictions, len(labels)), labels.names)
