"""The options of the stage `compare`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import UserError
from common.options import require_counts
from datasets.test_sets import TestSet
from evaluation.frozen_features import FrozenFeaturesConfig
from evaluation.rivals import RIVAL
from evaluation.rows import FROZEN_FEATURES, GENERATED, HELD_OUT, INVERTED
from student.network import elsewhere, folder_of
from teacher.fit import TeacherStage
from teacher.generators.inversion import InversionConfig

PERCEPTUAL_NETWORK = "perceptual_network"  # an input: the network, where it lies in a folder


@dataclass(frozen=True)
class CompareStage:
    """Stage `compare`: teacher, student and reference models on the same test sets.

    Args:
        held_out_images: number of rendered faces in the test set `held_out`; no stage trains on them; 0 for
            no such set.
        held_out_seed: seed of these faces.
        supervised_images: number of rendered faces with exact masks to train the row `supervised` on; best
            as many as there are pseudo-labels; 0 for no such row.
        inversion_images: number of images of each test set, the first ones, on which the teacher is
            measured by GAN inversion; 0 for none.
        inversion: how these images are inverted.
        perceptual_network: network whose feature maps measure the perceptual distance of the inversion: a
            timm model with pretrained weights, `local-dir:FOLDER`, or a finished student folder; empty for
            the run's own student.
        frozen_features: encoder of the row `frozen_features`.
        shown_images: number of images of each test set in `comparison.png`, the first ones.
        timed_images: number of images that each model is timed on, one at a time; their median counts.
        seed: seed of the row `colour_only`.
    """

    held_out_images: int = 500
    held_out_seed: int = 777_000_001
    supervised_images: int = 0
    inversion_images: int = 0
    inversion: InversionConfig = InversionConfig()
    perceptual_network: str = ""
    frozen_features: FrozenFeaturesConfig = FrozenFeaturesConfig()
    shown_images: int = 6
    timed_images: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts("compare", self, "shown_images", "timed_images")

    @property
    def folders(self) -> dict[str, Path]:
        """The networks that lie in folders, by the name of their input."""
        named = {
            PERCEPTUAL_NETWORK: folder_of(self.perceptual_network),
            FROZEN_FEATURES: folder_of(self.frozen_features.encoder),
        }
        return {name: path for name, path in named.items() if path}

    def without_folders(self) -> "CompareStage":
        """The options without these paths: an input is known by its content, not by its place."""
        return self.at(dict.fromkeys(self.folders, Path()))

    def at(self, folders: Mapping[str, Path]) -> "CompareStage":
        """The options with these networks in other folders."""
        network, encoder = self.perceptual_network, self.frozen_features.encoder
        if PERCEPTUAL_NETWORK in folders:
            network = elsewhere(network, folders[PERCEPTUAL_NETWORK])
        if FROZEN_FEATURES in folders:
            encoder = elsewhere(encoder, folders[FROZEN_FEATURES])
        return replace(
            self,
            perceptual_network=network,
            frozen_features=replace(self.frozen_features, encoder=encoder),
        )


@dataclass(frozen=True)
class Look:
    """Photographs without masks that the student is looked at on.

    Args:
        kept_back: their number; nothing learned from them.
        mirror: whether the student has learned mirror images.
    """

    kept_back: int
    mirror: bool


@dataclass(frozen=True)
class Comparison:
    """What the stage depends on.

    Args:
        settings: its options, without paths.
        teacher: recipe of the teacher, by which the row `frozen_features` is trained too.
        test_sets: the user's test sets by name, without paths.
        look: photographs without masks to look at; none for none.
    """

    settings: CompareStage
    teacher: TeacherStage
    test_sets: Mapping[str, TestSet] = field(default_factory=dict)
    look: Look | None = None

    def __post_init__(self) -> None:
        reserved = (GENERATED, HELD_OUT, RIVAL.removesuffix("."))
        for name in self.test_sets:
            if name in reserved or name.endswith(INVERTED) or "." in name:
                raise UserError(
                    f"sources.test_sets: a set cannot be named {name}, which has another meaning; choose "
                    "another name, without dots."
                )
