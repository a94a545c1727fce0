"""Labelled samples that are made while a student trains on them; nothing is written."""

from typing import Any

from accelerate import PartialState

from common.stage_folder import StageFolder
from datasets import Dataset
from datasets.pseudo_labels import Labelled
from teacher.consensus import OpenStudent
from teacher.labeller import Labeller, LabelStage, LabelTogether, open_labeller


class OnlineSamples(Dataset[Any]):
    """The samples of the stage `label`, made when they are asked for.

    Items are `Labelled`, and equal to the stored ones up to rounding: batches are other ones. No sample is
    dropped, since their ranking would need all of them first.
    """

    def __init__(self, labeller: Labeller) -> None:
        self.labeller, self.top_k = labeller, labeller.config.top_k

    def __len__(self) -> int:
        return self.labeller.config.count

    def __getitem__(self, number: int) -> Labelled:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[Labelled]:
        made = self.labeller
        return [s.sample for batch in made.batches(numbers) for s in made(made.inputs(batch))]


def open_online_samples(
    config: LabelStage | LabelTogether, folder: StageFolder, open_student: OpenStudent | None = None
) -> OnlineSamples:
    """The samples for a student, from the inputs of the stage `label`.

    Args:
        open_student: reads the student of the round before; needed in later rounds only.
    """
    return OnlineSamples(open_labeller(config, folder, PartialState().device, open_student))
