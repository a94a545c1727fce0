"""Stage `teacher`: fit FewShotCNN to a handful of annotated samples."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from tqdm import tqdm

from common.checkpoints import Checkpoints, save_weights
from common.errors import UserError
from common.files import write_json
from common.losses import cross_entropy, dice
from common.options import require_counts
from common.seeding import seed_everything
from common.stage_folder import Result, StageFolder, artifact_hash
from datasets.annotations import choose_shots, read_all_annotated, read_annotated
from datasets.labels import LabelSet
from datasets.sheets import save_sheet
from teacher.fewshot import ARCHITECTURE, WEIGHTS, FewShotCNN, FewShotConfig, architecture_of
from teacher.generators.base import FeatureGenerator, channels_of
from teacher.generators.registry import load_generator
from teacher.generators.sampling import feature_stds
from teacher.partial import answered_shots, is_partial, tell_pixels
from teacher.predict import Annotated, evaluate_teacher, show_teacher
from teacher.shots import Shot, whole_masks

SHEET = "predictions.png"


@dataclass(frozen=True)
class TeacherStage:
    """Stage `teacher`. The defaults are the recipe that this project started from.

    Args:
        network: architecture of the teacher.
        shots: number of annotated samples to learn from; 0 for all.
        shots_seed: seed of a random choice of these samples; none for the first ones.
        epochs: passes over the annotated samples, one step per sample; where masks are partial (more than
            a tenth of their pixels have no class), an epoch has five steps.
        learning_rate: Adam's learning rate, divided by ten after `lr_decay_epoch` epochs.
        lr_decay_epoch: epoch after which the learning rate is divided by ten.
        weight_decay: Adam's weight decay.
        dice_weight: weight of the Dice loss beside cross-entropy.
        flip: probability that features and mask are mirrored.
        standardise: learn as if every channel had the same standard deviation over random samples; the
            finished teacher reads the features as they are.
        grad_clip_norm: largest norm of a step's gradient, 0 for none. A step sees one sample, and a single
            outlier can undo what was learned.
        fresh_noise: draw new noise inputs at every step: the same face with other details.
        answered_samples: where masks are partial, number of fresh samples that are learned as well, with
            the answers of an ensemble that learned the masks before.
        style_mixing_from: side in pixels of the first layers that take the code of a random other sample in
            half of the steps: the same shape in other colours. 0 for none.
        val_every: epochs between two evaluations on the annotated test samples or, where there are none, on
            the samples it learns from.
        seed: seed of the initial weights, the order and the variations.
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
    answered_samples: int = 200
    val_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts("teacher", self, "epochs", "val_every", "answered_samples")


class Task(NamedTuple):
    """What a teacher is to learn.

    Attributes:
        labels: the classes.
        generator: whose features it reads.
        numbers: of the annotated samples that it learns from, in their folder.
        training: these samples.
        test: those that it is evaluated on.
        kind: what `test` is, for the figures.
    """

    labels: LabelSet
    generator: FeatureGenerator
    numbers: list[int]
    training: Annotated
    test: Annotated
    kind: str


def fit_teacher(config: TeacherStage, folder: StageFolder) -> Result:
    """Run the stage: writes `teacher.safetensors`, `teacher.json` and `predictions.png`.

    Reads the inputs `generator`, `annotations`, `labels` and, if there is one, `test_annotations`.
    The work is small: the main process does it, the others wait.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    task = open_task(config, folder)
    generator, labels, training = task.generator, task.labels, task.training
    seed_everything(config.seed)
    network = FewShotCNN(
        config.network, channels_of(generator), generator.resolution, len(labels)
    ).to(generator.device)
    if config.standardise:
        network.standardise(feature_stds(generator, config.seed))

    if is_partial(training.masks, labels.ignore_index):
        print(f"teacher: learns from {tell_pixels(training.masks, labels)}")
        shots = answered_shots(generator, training, labels, config)
    else:
        shots = partial(whole_masks, generator, training, config)
    figures = train_teacher(config, task, network, shots, folder)
    return write_teacher(folder, task, network, {task.kind: figures})


def open_task(config: TeacherStage, folder: StageFolder) -> Task:
    """What the stage's inputs say."""
    labels = LabelSet.load(folder.inputs["labels"])
    generator = load_generator(folder.inputs["generator"], PartialState().device)
    source = artifact_hash(folder.inputs["generator"])
    samples, masks = read_all_annotated(folder.inputs, labels, source)
    chosen = choose_shots(len(samples), config.shots, config.shots_seed)
    training = Annotated(samples.take(chosen), masks[chosen])
    if path := folder.inputs.get("test_annotations"):
        test = Annotated(*read_annotated(path, labels, source))
        return Task(labels, generator, chosen, training, test, "generated")
    return Task(labels, generator, chosen, training, training, "its own samples")


def write_teacher(
    folder: StageFolder, task: Task, network: FewShotCNN, figures: Mapping[str, Any]
) -> Result:
    """Write a teacher that is trained, and what it makes of a few test samples."""
    save_sheet(show_teacher(task.generator, network, task.test, task.labels), folder.path / SHEET)
    save_weights(folder.path / WEIGHTS, network.state_dict())
    about = architecture_of(network, task.labels.names, task.numbers)
    write_json(folder.path / ARCHITECTURE, about)
    return Result([WEIGHTS, ARCHITECTURE, SHEET], figures)


def train_teacher(
    config: TeacherStage,
    task: Task,
    teacher: FewShotCNN,
    shots: Callable[[], Iterable[Shot]],
    folder: StageFolder,
) -> dict[str, Any]:
    """All epochs, with an evaluation and a checkpoint now and then; goes on where it was cut off.

    Args:
        shots: gives those of an epoch, which depend on the global random state alone.

    Returns:
        The last evaluation, of the finished teacher.
    """
    optimiser = torch.optim.Adam(
        teacher.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    checkpoints, first = Checkpoints(folder.checkpoints), 0
    figures: dict[str, Any] = {}
    if state := checkpoints.newest():
        first, figures = state["epoch"], state["figures"]
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
        print(f"teacher: resumed at epoch {first}")

    for epoch in (bar := tqdm(range(first, config.epochs), desc="teacher", unit="epoch")):
        seed_everything(config.seed, epoch)
        loss = train_epoch(teacher, optimiser, config, epoch, shots(), task.labels.ignore_index)

        metrics = {"loss": loss, "rate": optimiser.param_groups[0]["lr"]}
        done = epoch + 1
        if done % config.val_every == 0 or done == config.epochs:
            figures = evaluate_teacher(task.generator, teacher, task.test, task.labels)
            metrics |= {"miou": figures["miou"]}
            metrics |= {f"iou/{name}": value for name, value in figures["iou"].items()}
            bar.set_postfix(loss=f"{metrics['loss']:.3f}", miou=f"{figures['miou']:.3f}")
            state = {"teacher": teacher.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoints.save(done, {"epoch": done, "figures": figures, **state})
        folder.log(done, metrics)
    teacher.fold_scale()
    return figures


def train_epoch(
    teacher: FewShotCNN,
    optimiser: torch.optim.Optimizer,
    config: TeacherStage,
    epoch: int,
    shots: Iterable[Shot],
    ignore_index: int,
) -> float:
    """One step for each shot; gives the mean loss.

    Raises:
        UserError: the loss is not finite.
    """
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * (0.1 if epoch >= config.lr_decay_epoch else 1.0)
    teacher.train()
    losses = []
    for features, mask, weight in shots:
        target = mask.long().to(teacher.first.weight.device)
        ones = torch.ones_like(target, dtype=torch.float32)
        weight = ones if weight is None else weight.to(target.device)
        if torch.rand(()) < config.flip:
            features = [f.flip(-1) for f in features]
            target, weight = target.flip(-1), weight.flip(-1)
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
