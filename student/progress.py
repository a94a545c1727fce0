"""How a training is seen while it runs: a progress bar, metrics.jsonl and TensorBoard."""

import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from common.stage_folder import StageFolder
from datasets import Dataset
from datasets.labels import LabelSet
from datasets.sheets import show_confusion, show_predictions
from student.recipe import StudentStage


class Progress:
    """The progress bar, and what happened since the last validation.

    Args:
        folder: of the stage, whose metrics.jsonl and TensorBoard are written.
        first: step at which this process begins.
    """

    def __init__(
        self, recipe: StudentStage, folder: StageFolder, accelerator: Accelerator, first: int
    ) -> None:
        self.recipe, self.folder = recipe, folder
        size = recipe.batch_size
        self._bar = tqdm(
            total=recipe.steps * size, initial=first * size, desc=folder.stage, unit="img",
            disable=not accelerator.is_main_process,
        )  # fmt: skip
        self._postfix: dict[str, str] = {}
        self._loss = torch.zeros((), device=accelerator.device)
        self.restart()

    def restart(self) -> None:
        """Forget the steps so far: means and speed are of those between two validations."""
        self._steps, self._started = 0, time.monotonic()
        self._loss.zero_()

    def add(self, step: int, loss: Tensor) -> None:
        """Count a step that is done."""
        self._loss += loss
        self._steps += 1
        self._postfix["step"] = f"{step + 1}/{self.recipe.steps}"
        self._bar.set_postfix(self._postfix, refresh=False)
        self._bar.update(self.recipe.batch_size)

    def log(self, done: int, rate: float, norm: Tensor, figures: dict[str, Any]) -> None:
        """Write a line of metrics, and show loss and mIoU on the bar. Main process only.

        Args:
            done: number of steps.
            rate: the last step's learning rate.
            norm: of the last step's gradient.
            figures: of the validation.
        """
        images = self._steps * self.recipe.batch_size
        metrics = {
            "loss": float(self._loss) / self._steps,
            "rate": rate,
            "gradient_norm": float(norm),
            "images_per_second": images / (time.monotonic() - self._started),
            "validation/miou": figures["miou"],
            **{f"validation/iou/{k}": v for k, v in figures["iou"].items()},
        }
        self.folder.log(done, metrics)
        self._postfix |= {"loss": f"{metrics['loss']:.3f}", "miou": f"{figures['miou']:.3f}"}
        self._bar.set_postfix(self._postfix)

    def draw(
        self, done: int, network: nn.Module, data: Dataset[Any], matrix: Tensor, labels: LabelSet
    ) -> None:
        """Add predictions on the validation images and their confusion matrix to TensorBoard."""
        for title, sheet in (
            ("validation", show_predictions(network, data, labels)),
            ("confusion", show_confusion(matrix, labels)),
        ):
            self.folder.tensorboard.add_image(title, sheet, done, dataformats="HWC")

    def close(self) -> None:
        self._bar.close()
