"""The table of generator families, and how a generator is read from a folder or file."""

from pathlib import Path

import torch

from common.errors import UserError
from teacher.generators.base import FeatureGenerator, GeneratorFamily
from teacher.generators.stylegan2 import files as stylegan2

GENERATORS: dict[str, GeneratorFamily] = {  # a path belongs to the first family that claims it
    "stylegan2": stylegan2,  # claims every checkpoint file: other families' files go before it
}


def load_generator(path: Path, device: torch.device | str = "cpu") -> FeatureGenerator:
    """Read a generator in float32, frozen, for inference.

    Args:
        path: a folder of the stage `generator` or of `convert`, or a checkpoint file of any format
            that `convert` reads.

    Raises:
        UserError: it is of no known family, a file is missing or damaged, or a tensor is missing or left
            over.
    """
    for family in GENERATORS.values():
        if family.claims(path):
            return family.load(path, torch.device(device))
    raise UserError(
        f"{path} holds no generator of a known family ({', '.join(GENERATORS)}); check the option or the "
        "config that names it."
    )
