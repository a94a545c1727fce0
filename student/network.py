"""Students built, written and read; what others use them for: label maps and feature maps.

Shapes: N = images, C = channels, H, W = pixels, h, w = places of a feature map.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.checkpoints import load_weights
from common.errors import UserError
from common.files import read_fields
from common.options import read_options
from datasets.labels import LabelSet
from datasets.sheets import batch_size_for
from student.base import NetworkConfig, SizedNetwork, Student
from student.decoders import DECODERS
from student.encoder import LOCAL

WEIGHTS = "student.safetensors"
ARCHITECTURE = "student.json"
_LARGEST = 4096  # channels and pixels that a file may claim

Predict = Callable[[Tensor], Tensor]  # uint8 images [N, 3, H, W] -> label maps, uint8 [N, H, W]


def build_student(config: NetworkConfig, classes: int, resolution: int | None = None) -> Student:
    """A new student with the decoder that the config names.

    Args:
        resolution: side of the square images that it is for, in pixels, on which the size of an encoder of
            one size depends; without it such an encoder has timm's own size for it.

    Raises:
        UserError: there is no such decoder or encoder.
    """
    if config.decoder not in DECODERS:
        raise UserError(
            f"student.network.decoder {config.decoder!r} is unknown; choose one of {', '.join(DECODERS)}."
        )
    if resolution:
        config = SizedNetwork(**vars(config) | {"resolution": resolution})
    return DECODERS[config.decoder](config, classes)


def student_json(config: NetworkConfig, names: tuple[str, ...], resolution: int) -> dict[str, Any]:
    """What `load_student` needs beside the weights, as it is written to `student.json`.

    Args:
        names: of the classes.
        resolution: side of the images that the student was trained on, in pixels.
    """
    kept = {k: v for k, v in vars(config).items() if k not in ("pretrained", "resolution")}
    if kept.get("encoder_size") is None:
        kept.pop("encoder_size", None)
    return {"network": kept, "classes": list(names), "resolution": resolution}


def load_student(
    folder: Path, architecture: str = ARCHITECTURE, weights: str = WEIGHTS
) -> tuple[Student, dict[str, Any]]:
    """Read a trained student for inference, and the contents of its `student.json`.

    Raises:
        UserError: files are missing or damaged, or an older version wrote them.
    """
    path, remedy = folder / architecture, "train the student again"
    about = read_fields(path, {"network": dict, "classes": list, "resolution": int}, remedy)
    unknown = {*about["network"]} - {f.name for f in fields(SizedNetwork)}
    if unknown:
        raise UserError(
            f"{path} was made by an older version (it has {', '.join(sorted(unknown))}); {remedy}."
        )
    config = read_options(SizedNetwork, about["network"], path, remedy)
    sizes = [value for value in vars(config).values() if type(value) is int]
    if not 0 < min(sizes) <= max(sizes) <= _LARGEST or not 0 < len(about["classes"]) < 256:
        raise UserError(f"{path} describes no student; {remedy}.")
    student = build_student(config, len(about["classes"]))
    load_weights(student, folder / weights, "run `student` again")
    return student.eval().requires_grad_(False), about


def predictor(network: nn.Module) -> Predict:
    """A network that gives logits, as a function from images to label maps on the CPU."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)  # as it was trained: faster

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        moved = images.to(device, memory_format=torch.channels_last)
        masks: Tensor = network(moved).argmax(1).to(torch.uint8)
        return masks.cpu()

    return predict


def predict_all(predict: Predict, images: Tensor) -> Tensor:
    """Label maps [N, H, W] of images [N, 3, H, W], a batch at a time."""
    return torch.cat([predict(batch) for batch in images.split(batch_size_for(images))])


def load_probabilities(
    folder: Path, labels: LabelSet, mirror: bool, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """A finished student as a function from images, uint8 [B, 3, H, W], to probabilities [B, C, H, W].

    Args:
        folder: of the student.
        labels: the run's classes.
        mirror: average over each image and its mirror image.

    Raises:
        UserError: the student cannot be read, or was trained for other classes.
    """
    network, about = load_student(folder)
    if about["classes"] != list(labels.names):
        raise UserError(
            f"{folder}: this student was trained for classes {', '.join(map(str, about['classes']))}; "
            f"the run's label set has {', '.join(labels.names)}. Name a student trained for these."
        )
    network.to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def probabilities(images: Tensor) -> Tensor:
        moved = images.to(device, memory_format=torch.channels_last)
        straight = network(moved).float().softmax(1)
        if not mirror:
            return straight
        return (straight + network(moved.flip(-1)).float().softmax(1).flip(-1)) / 2

    return probabilities


def folder_of(source: str) -> Path | None:
    """The folder that a source of `load_maps` names, if it names one; its contents identify the network."""
    folder = Path(source.removeprefix(LOCAL))
    return folder if source and folder.is_dir() else None


def elsewhere(source: str, folder: Path) -> str:
    """The same source with its folder at another place."""
    return f"{LOCAL if source.startswith(LOCAL) else ''}{folder}"


def load_maps(source: str, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """An encoder's feature maps: images [N, 3, H, W] in [0, 255] -> maps [N, C, h, w], finest first.

    Args:
        source: a finished student folder, or the name of a timm model with pretrained weights;
            `local-dir:FOLDER` where these lie in a folder.

    Raises:
        UserError: it is neither.
    """
    if Path(source).is_dir():
        network = load_student(Path(source))[0]
    else:
        try:
            network = build_student(NetworkConfig(source, pretrained=True), 2)
        except UserError as error:
            raise UserError(
                f"{source!r} is neither a finished student folder nor a timm model whose pretrained "
                f"weights can be had ({error.__cause__ or error}); name another, or go online "
                "once to fill timm's cache."
            ) from error
    return network.eval().requires_grad_(False).to(device).maps


def load_embedding(source: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """One vector per image: uint8 [N, 3, H, W] -> [N, C], the mean of the deepest map of `load_maps`."""
    maps = load_maps(source, device)
    return lambda images: maps(images.to(device))[-1].mean((2, 3))
