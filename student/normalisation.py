"""Batches that cannot be shared out or normalised: refused before anything is trained."""

import torch
from torch import nn

from common.errors import UserError
from common.normalisation import normalised_places
from student.parallel import sees_whole_batch
from student.recipe import StudentStage


def check_batch(recipe: StudentStage, processes: int) -> None:
    """Refuse a batch that cannot be shared out.

    Raises:
        UserError: it does not divide by processes and parts.
    """
    parts, sizes = recipe.grad_accumulation_steps, {"batch_size": recipe.batch_size}
    if recipe.own_answer.unlabelled != "none":
        sizes["own_answer.unlabelled_batch"] = recipe.own_answer.unlabelled_batch
    for name, size in sizes.items():
        if size % (processes * parts):
            raise UserError(
                f"student.{name} is {size}, not divisible by {processes} processes x {parts} parts "
                "(student.grad_accumulation_steps); it is the batch of the whole run."
            )


def takes_single_images(recipe: StudentStage, processes: int) -> bool:
    """Whether a process takes one image at a time, as only then a layer can see a single value."""
    return recipe.batch_size == processes * recipe.grad_accumulation_steps


def check_normalised(
    network: nn.Module, recipe: StudentStage, side: int, processes: int, device: torch.device
) -> None:
    """Refuse a network whose batch normalisation would see a single value of a channel.

    Args:
        network: its mode is kept.
        side: of the square images, in pixels.
        processes: number of them; the batch divides by it and the recipe's parts.
        device: where it trains.

    Raises:
        UserError: there is such a layer; it names the options to change.
    """
    if not takes_single_images(recipe, processes):
        return
    halved = ""
    if recipe.half_size_share:
        side, halved = side // 2, " (half the size, by student.half_size_share)"
    for name, (module, places) in normalised_places(network, side).items():
        images = processes if sees_whole_batch(module, device) else 1
        if places * images == 1:
            raise UserError(
                f"student.batch_size {recipe.batch_size} gives batch normalisation a single value: the map "
                f"of {name} has one place for an image of {side} px{halved}, and a process takes one image "
                f"at a time; raise student.batch_size above {recipe.batch_size} (processes x "
                "student.grad_accumulation_steps), lower student.network.levels, or use larger images."
            )
