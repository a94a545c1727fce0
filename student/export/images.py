"""The images that an export is measured on: those that the student was trained with."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.files import read_fields
from common.stage_folder import CONFIG, StageFolder
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels
from datasets.transforms import Exact
from student.data import OpenOnline, split_validation


@dataclass(frozen=True)
class ExportImages:
    """Images of the kind that the student has learned, uint8 [N, 3, R, R].

    Attributes:
        validation: images kept from its training; rendered faces where these are not at hand.
        truth: their masks [N, R, R], if they are at hand.
        training: some of the images that it was trained on, if they are at hand.
        why_none: the reason why they are not.
    """

    validation: Tensor
    truth: Tensor | None = None
    training: Tensor | None = None
    why_none: str = ""


def find_images(
    folder: StageFolder,
    labels: LabelSet,
    resolution: int,
    count: int,
    online: Any,
    open_online: OpenOnline | None,
) -> ExportImages:
    """The student's own validation images and some training images, split as in the stage `student`.

    Args:
        folder: of the stage `export`; the inputs that the student was made from may be missing in it.
        resolution: the student's.
        count: number of training images.
        online: settings of what made the student's samples, for `open_online`.
    """
    remedy = "train the student again"
    made = read_fields(folder.inputs["student"] / CONFIG, {"config": dict, "inputs": dict}, remedy)
    recipe, inputs = made["config"]["recipe"], made["inputs"]
    source: Any = None
    why_none = "its training images are not at hand"
    if recipe["source"] == "faces":
        faces = RenderedFaces(recipe["seed"], recipe["faces"], resolution, labels=labels)
        source = Exact(faces)
    elif recipe["source"] == "online" and inputs.keys() <= folder.inputs.keys():
        assert open_online is not None
        source = open_online(online, folder)
    elif "pseudo_labels" in folder.inputs:
        if inputs.get("pseudo_labels") == folder.input_hash("pseudo_labels"):
            source = PseudoLabels(folder.inputs["pseudo_labels"])
        else:
            why_none = "the pseudo-labels are not those that it was trained on"
    if source is None:
        return ExportImages(RenderedFaces(0, count, resolution).whole()[0], why_none=why_none)
    training, kept = split_validation(source, recipe["val_images"])
    items = kept.__getitems__([*range(len(kept))])
    learned = training.__getitems__([*range(min(len(training), count))])
    return ExportImages(
        torch.stack([item.image for item in items]),
        torch.stack([item.mask for item in items]),
        torch.stack([item.image for item in learned]),
    )
