"""The network while it learns: weights, their moving average, the optimiser, one step."""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from common.errors import UserError
from common.losses import cross_entropy, dice, lovasz
from common.seeding import seed_everything
from datasets.labels import LabelSet
from datasets.pseudo_labels import soft_labels
from datasets.transforms import Sample
from student.data import split
from student.network import Build, Student
from student.parallel import share_batch_norm, total
from student.recipe import StudentStage, learning_rate


class Learner:
    """A student in training on this process, one of those that share every batch.

    Args:
        build: makes the network from its config and the number of classes.

    Attributes:
        network: the student itself.
        average: the moving average of its weights, which is what is evaluated and kept.

    Raises:
        UserError: the batch cannot be shared out.
    """

    def __init__(
        self,
        recipe: StudentStage,
        labels: LabelSet,
        accelerator: Accelerator,
        build: Build = Student,
    ) -> None:
        ranks = accelerator.num_processes
        if recipe.batch_size % (ranks * recipe.grad_accumulation_steps):
            raise UserError(
                f"student.batch_size is {recipe.batch_size}, not divisible by {ranks} processes x "
                f"{recipe.grad_accumulation_steps} parts (student.grad_accumulation_steps); it is the batch of the whole run."
            )
        self.recipe, self.labels, self.accelerator = recipe, labels, accelerator
        seed_everything(recipe.seed)  # ranks start alike
        self.network = build(recipe.network, len(labels)).to(memory_format=torch.channels_last)
        average = ModelEmaV3(self.network, decay=recipe.ema_decay, use_warmup=True)
        self._average = average.to(accelerator.device)
        share_batch_norm(self.network, accelerator.device)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, recipe.learning_rate)
        self._wrapped, self.optimiser = accelerator.prepare(self.network, optimiser)
        self.model: Any = torch.compile(self._wrapped) if recipe.compile else self._wrapped

    @property
    def average(self) -> nn.Module:
        return self._average.module

    def step(self, step: int, batch: Sample) -> tuple[Tensor, Tensor]:
        """Learn from this process's share of a batch; gives the loss and the gradient's norm.

        Raises:
            UserError: the loss is not finite.
        """
        recipe, accelerator = self.recipe, self.accelerator
        seed_everything(recipe.seed, step, accelerator.process_index)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        self.model.train()
        lost = torch.zeros((), device=accelerator.device)
        for i, part in enumerate(split(batch, recipe.grad_accumulation_steps), 1):
            last = i == recipe.grad_accumulation_steps
            with nullcontext() if last else accelerator.no_sync(self._wrapped):
                loss = self.loss(part, step) / recipe.grad_accumulation_steps
                if not torch.isfinite(loss):
                    raise UserError(
                        f"the student's loss is {float(loss)} at step {step} (samples "
                        f"{part.number.tolist()[:8]}, ...); lower student.learning_rate. The last checkpoint "
                        "is intact."
                    )
                accelerator.backward(loss)
            lost += loss.detach()
        norm = accelerator.clip_grad_norm_(self.model.parameters(), recipe.grad_clip_norm)
        assert norm is not None
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._average.update(self.network, step=step)
        return lost, norm

    def loss(self, batch: Sample, step: int) -> Tensor:
        """Loss of a batch; where several processes hold parts of one, of all of it."""
        recipe, ignore_index = self.recipe, self.labels.ignore_index
        images, target, weight, runners_up = (t.to(self.accelerator.device) for t in batch[:4])
        with self.accelerator.autocast():
            logits = self.model(images.to(memory_format=torch.channels_last)).float()
        soft, heat = None, 1.0
        if recipe.targets == "soft":
            heat = recipe.temperature
            soft = soft_labels(target, weight, runners_up, len(self.labels), heat)
        weight = weight**recipe.confidence_power
        # After Hinton et al., "Distilling the knowledge" (2015): gradients shrink with its square.
        loss = heat**2 * cross_entropy(logits / heat, target, weight, ignore_index, soft, total)
        if recipe.dice_weight:
            loss = loss + recipe.dice_weight * dice(logits, target, weight, ignore_index, total)
        if recipe.lovasz_weight:
            # It sorts pixels: every second row and column, in turn, in a quarter of the time.
            few = (..., slice(step % 2, None, 2), slice(step // 2 % 2, None, 2))
            loss = loss + recipe.lovasz_weight * lovasz(
                logits[few], target[few], weight[few], ignore_index, total
            )
        return loss

    def state(self) -> dict[str, Any]:
        """All that a later process goes on from."""
        scaler = self.accelerator.scaler
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
