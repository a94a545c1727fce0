"""A student while it learns, on one of the processes that share every batch."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from common.learner import Learner, require_finite, warmup_cosine
from common.losses import cross_entropy, dice, lovasz
from common.seeding import seed_everything
from datasets.labels import LabelSet
from datasets.pseudo_labels import soft_labels
from datasets.transforms import Sample
from student.base import Build
from student.data import halved, joined, split
from student.normalisation import check_batch, check_normalised
from student.own_answer import mixed, with_own_answer
from student.parallel import share_batch_norm, total
from student.recipe import StudentStage


class StudentLearner(Learner):
    """A student in training under accelerate.

    Args:
        recipe: how it is trained.
        labels: its classes.
        accelerator: the processes and the device.
        build: makes the network from its config and the number of classes.

    Raises:
        UserError: the batch cannot be shared out.
    """

    def __init__(
        self, recipe: StudentStage, labels: LabelSet, accelerator: Accelerator, build: Build
    ) -> None:
        check_batch(recipe, accelerator.num_processes)
        self.recipe, self.labels, self.accelerator = recipe, labels, accelerator
        seed_everything(recipe.seed)  # all processes start alike
        network = build(recipe.network, len(labels)).to(accelerator.device)
        network.to(memory_format=torch.channels_last)
        groups: list[dict[str, Any]] = [
            {
                "params": [p for p in network.parameters() if p.ndim > 1],
                "weight_decay": recipe.weight_decay,
            },
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, recipe.learning_rate)
        # The average is copied here, before its original normalises over several processes.
        super().__init__(network, optimiser, recipe.ema_decay)
        share_batch_norm(network, accelerator.device)
        self._wrapped, self.optimiser = accelerator.prepare(network, optimiser)
        self.model: Any = torch.compile(self._wrapped) if recipe.compile else self._wrapped

    def check(self, side: int) -> None:
        """Refuse to begin with images [3, side, side] of which a layer has nothing to normalise.

        Raises:
            UserError: there is such a layer.
        """
        processes, device = self.accelerator.num_processes, self.accelerator.device
        check_normalised(self.network, self.recipe, side, processes, device)

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Learn on from these weights."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def step(
        self, step: int, batch: Sample, unlabelled: Sample | None = None
    ) -> tuple[Tensor, Tensor]:
        """Learn from this process's share of a batch.

        Args:
            unlabelled: images without masks, to be learned from as well.

        Returns:
            The loss, and the norm of the gradient before clipping.

        Raises:
            UserError: the loss is not finite.
        """
        recipe, accelerator = self.recipe, self.accelerator
        seed_everything(recipe.seed, step, accelerator.process_index)
        self.set_learning_rate(
            warmup_cosine(recipe.learning_rate, step, recipe.steps, recipe.warmup_steps)
        )
        self.model.train()
        count = recipe.grad_accumulation_steps
        parts = split(batch, count)
        if unlabelled is not None:
            parts = [joined(*both) for both in zip(parts, split(unlabelled, count), strict=True)]
        if recipe.own_answer.is_asked and step >= recipe.own_answer.after:
            parts = [self._with_own_answer(part, step) for part in parts]
        if step < recipe.half_size_share * recipe.steps:
            parts = [halved(part, step) for part in parts]

        # Backpropagate part by part; processes exchange gradients once, after the last part.
        lost = torch.zeros((), device=accelerator.device)
        for i, part in enumerate(parts, 1):
            with nullcontext() if i == count else accelerator.no_sync(self._wrapped):
                loss = self.loss(part, step) / count
                require_finite(
                    loss, "the student", step, "lower student.learning_rate",
                    f"samples {part.number.tolist()[:8]}, ...",
                )  # fmt: skip
                accelerator.backward(loss)
            lost += loss.detach()

        # Clip, update the weights, let the average follow.
        norm = accelerator.clip_grad_norm_(self.model.parameters(), recipe.grad_clip_norm)
        assert norm is not None
        self.update(step)
        return lost, norm

    @torch.no_grad()
    def _with_own_answer(self, part: Sample, step: int) -> Sample:
        """A part of a batch whose labels are joined with what the average sees in the original images."""
        part = Sample(*(column.to(self.accelerator.device) for column in part))
        with self.accelerator.autocast():
            logits = self.average.eval()(part.original.to(memory_format=torch.channels_last))
        own, config = logits.float().softmax(1), self.recipe.own_answer
        bare = (part.mask == self.labels.ignore_index).flatten(1).all(1)
        part = with_own_answer(part, own, config, self.labels.ignore_index)
        return mixed(part, bare, len(self.labels), config.mix, (self.recipe.seed, step))

    def loss(self, batch: Sample, step: int) -> Tensor:
        """Loss of a batch; where several processes hold parts of one, of the whole batch."""
        recipe, ignore_index = self.recipe, self.labels.ignore_index
        images, target, weight, runners_up = (t.to(self.accelerator.device) for t in batch[:4])
        with self.accelerator.autocast():
            logits = self.model(images.to(memory_format=torch.channels_last)).float()
        soft, temperature = None, 1.0
        if recipe.targets == "soft":
            temperature = recipe.temperature
            soft = soft_labels(target, weight, runners_up, len(self.labels), temperature)
        weight = weight**recipe.confidence_power
        # Gradients shrink with the square of the temperature (Hinton et al., 2015).
        loss = temperature**2 * cross_entropy(
            logits / temperature, target, weight, ignore_index, soft, total
        )
        if recipe.dice_weight:
            loss = loss + recipe.dice_weight * dice(logits, target, weight, ignore_index, total)
        if recipe.lovasz_weight:
            # It sorts pixels: every second row and column, in turn, takes a quarter of the time.
            few = (..., slice(step % 2, None, 2), slice(step // 2 % 2, None, 2))
            loss = loss + recipe.lovasz_weight * lovasz(
                logits[few], target[few], weight[few], ignore_index, total
            )
        return loss

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from; under fp16 the loss scaler's state too."""
        scaler = self.accelerator.scaler
        return super().state() | {"scaler": scaler.state_dict() if scaler else {}}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        super().load(state)
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
