"""FewShotCNN: five convolutions from a generator's features to the classes.

After "Repurposing GANs for One-shot Semantic Part Segmentation" (Tritrong et al., 2021): a small
network on all feature maps, upsampled to the image, is enough to name the parts that the generator
already tells apart. Several of them, an ensemble, live in one network of grouped convolutions: they
share the generator's pass and one widened first layer. Where they disagree, they are uncertain.

Shapes: B = batch, K = members, C = classes, S = the image's side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from common.checkpoints import load_weights
from common.errors import UserError
from common.files import read_fields
from common.options import read_options
from common.stage_folder import plain
from teacher.edges import smooth_along_edges
from teacher.generators.base import FeatureGenerator, channels_of
from teacher.hypercolumn import HypercolumnConv, Interpolation
from teacher.layers import convolve, dropout

WEIGHTS = "teacher.safetensors"
ARCHITECTURE = "teacher.json"
_REMEDY = "run `teacher` again"
_WIDEST = 4096  # channels that a file may claim

_CACHED = 2**20  # numbers between two convolutions that a processor's cache holds


@dataclass(frozen=True)
class FewShotConfig:
    """Architecture of the teacher.

    Args:
        widths: output channels of the convolutions before the last one.
        dilations: dilations of all convolutions; the first, on the hypercolumn, must be 1.
        negative_slope: slope of LeakyReLU below zero.
        feature_maps: names of the feature maps that are read, as in `64.0`; none for all of them.
        upsampling: how the feature maps reach the image's size.
        channel_dropout: share of the hypercolumn's channels that a training step leaves out.
        head_dropout: share of the activations between the convolutions that a training step leaves out.
        members: networks in the ensemble, alike but for their initial weights.
        follow_edges: let the borders between classes in an answer follow the edges of the image. Training
            stays the same.
    """

    widths: tuple[int, ...] = (128, 64, 64, 32)
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1)
    negative_slope: float = 0.2
    feature_maps: tuple[str, ...] = ()
    upsampling: Interpolation = "nearest"
    channel_dropout: float = 0.0
    head_dropout: float = 0.0
    members: int = 1
    follow_edges: bool = False

    def __post_init__(self) -> None:
        if len(self.dilations) != len(self.widths) + 1 or self.dilations[0] != 1:
            raise UserError(
                f"teacher.network: {len(self.widths)} widths need {len(self.widths) + 1} dilations, "
                f"the first of them 1; got {list(self.dilations)}."
            )
        for name in ("channel_dropout", "head_dropout"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise UserError(
                    f"teacher.network.{name} is {share}; it is a share, from 0 to below 1."
                )


class FewShotCNN(nn.Module):
    """Feature maps of a generator -> logits or probabilities of the classes.

    Args:
        features: channels of all feature maps by name, in order.
        size: S.
        classes: C.

    Raises:
        UserError: the config names a feature map that the generator does not have.
    """

    def __init__(
        self, config: FewShotConfig, features: Mapping[str, int], size: int, classes: int
    ) -> None:
        super().__init__()
        self.config, self.features = config, dict(features)
        if unknown := set(config.feature_maps) - set(features):
            raise UserError(
                f"teacher.network.feature_maps: the generator has no {', '.join(sorted(unknown))}; "
                f"it has {', '.join(features)}."
            )
        self.chosen = [
            i
            for i, name in enumerate(features)
            if not config.feature_maps or name in config.feature_maps
        ]
        members, widths = config.members, [*config.widths, classes]
        channels = [list(features.values())[i] for i in self.chosen]
        self.first = HypercolumnConv(channels, members * widths[0], size, config.upsampling)
        self.rest = nn.ModuleList(
            nn.Conv2d(members * a, members * b, 3, padding=d, dilation=d, groups=members)
            for a, b, d in zip(widths[:-1], widths[1:], config.dilations[1:], strict=True)
        )

    def standardise(self, stds: Sequence[Tensor], trained: bool = False) -> None:
        """Learn as if every channel had unit standard deviation, until `fold_scale`.

        The first layer is reparametrised by 1/std, so that loud channels do not learn faster than quiet
        ones.

        Args:
            stds: standard deviation of every channel [C] of every feature map.
            trained: whether the weights are meant for the features as they are; initial ones are meant for
                standardised ones.
        """
        chosen = torch.cat([stds[i] for i in self.chosen])
        scale = 1 / chosen.clamp_min(1e-3 * float(chosen.mean()))
        scaled = _Scaled(scale[:, None, None], trained)
        parametrize.register_parametrization(self.first, "weight", scaled)

    def fold_scale(self) -> None:
        """Multiply 1/std into the first layer, which reads the features as they are from then on."""
        if parametrize.is_parametrized(self.first):
            parametrize.remove_parametrizations(self.first, "weight")

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """All feature maps of the generator -> logits of every member [B, K, C, S, S]."""
        maps = [features[i] for i in self.chosen]
        size = self.samples_at_once(maps[0].device) or len(maps[0])
        parts = zip(*(f.split(size) for f in maps), strict=True)
        logits = [self._logits(part) for part in parts]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def samples_at_once(self, device: torch.device) -> int:
        """How many samples' activations a processor's cache holds; 0 for a GPU, which takes all."""
        return max(1, _CACHED // self.widest) if device.type == "cpu" else 0

    @property
    def widest(self) -> int:
        """Numbers in a sample's activations where they are most."""
        return self.config.members * max(self.config.widths) * self.first.size**2

    def _logits(self, maps: Sequence[Tensor]) -> Tensor:
        """The feature maps that are read -> logits [B, K, C, S, S]."""
        x = self.first([F.dropout2d(f, self.config.channel_dropout, self.training) for f in maps])
        for conv in self.rest:
            x = F.leaky_relu(x, self.config.negative_slope)
            if self.training and self.config.head_dropout:
                x = dropout(x, self.config.head_dropout)
            x = convolve(conv, x)
        return x.unflatten(1, (self.config.members, -1))

    def probabilities(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """The answer for samples, [B, C, S, S].

        Args:
            features: all feature maps of the generator.
            images: from 0 to 255, [B, 3, S, S].
        """
        return self.together(self(features).float().softmax(2), images)

    def together(self, members: Tensor, images: Tensor) -> Tensor:
        """The probabilities of all members [B, K, C, S, S] as one answer [B, C, S, S]."""
        mean = members.mean(1)
        return smooth_along_edges(mean, images) if self.config.follow_edges else mean


class _Scaled(nn.Module):
    """Turns weights for scaled inputs into weights for the inputs themselves."""

    scale: Tensor

    def __init__(self, scale: Tensor, trained: bool) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.trained = trained

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.scale if self.trained else weight


def uncertainty(probabilities: Tensor) -> Tensor:
    """Uncertainty of an ensemble at every pixel, in nats: [B, K, C, S, S] -> [B, S, S].

    The Jensen-Shannon divergence of the members, as in DatasetGAN (Zhang et al., 2021): the entropy of
    their mean, less the mean of their entropies. Of a single network, the entropy of its probabilities.
    """
    of_mean = torch.special.entr(probabilities.mean(1)).sum(1)
    if probabilities.shape[1] == 1:
        return of_mean
    return of_mean - torch.special.entr(probabilities).sum(2).mean(1)


def image_score(uncertain: Tensor, share: float = 0.1) -> Tensor:
    """Mean over each image's most uncertain `share` of pixels: [B, S, S] -> [B]."""
    pixels = uncertain.flatten(1)
    return pixels.topk(max(1, int(share * pixels.shape[1])), dim=1).values.mean(1)


def architecture_of(
    network: FewShotCNN, names: Sequence[str], samples: Sequence[int]
) -> dict[str, Any]:
    """What `teacher.json` says: architecture, classes, numbers of the samples learned from."""
    return {
        "network": plain(network.config),
        "features": network.features,
        "size": network.first.size,
        "classes": list(names),
        "samples": list(samples),
    }


def learned_from(folder: Path) -> list[int]:
    """Numbers of the annotated samples that a trained teacher has seen."""
    about = read_fields(folder / ARCHITECTURE, {"samples": list}, _REMEDY)
    if not all(type(number) is int for number in about["samples"]):
        raise UserError(f"{folder / ARCHITECTURE} has samples that are no numbers; {_REMEDY}.")
    return list(about["samples"])


def load_teacher(folder: Path, generator: FeatureGenerator, classes: Sequence[str]) -> FewShotCNN:
    """Read a trained teacher, frozen, for inference, on the generator's device.

    Args:
        generator: whose features it is to read.
        classes: names of the run's label set.

    Raises:
        UserError: the weights cannot be read, or the teacher was trained with another generator or for
            other classes.
    """
    kinds = {"network": dict, "features": dict, "size": int, "classes": list}
    about = read_fields(folder / ARCHITECTURE, kinds, _REMEDY)
    if about["classes"] != list(classes):
        raise UserError(
            f"{folder}: this teacher was trained for classes {', '.join(map(str, about['classes']))}; "
            f"the run's label set has {', '.join(classes)}. Run `teacher` again."
        )
    if about["features"] != channels_of(generator):
        raise UserError(
            f"{folder}: this teacher was trained on the features of another generator; run `teacher` "
            "again."
        )
    config = read_options(FewShotConfig, about["network"], folder / ARCHITECTURE, _REMEDY)
    if about["size"] != generator.resolution or max(*config.widths, config.members) > _WIDEST:
        raise UserError(
            f"{folder / ARCHITECTURE} describes no teacher of this generator; {_REMEDY}."
        )
    teacher = FewShotCNN(config, about["features"], about["size"], len(about["classes"]))
    load_weights(teacher, folder / WEIGHTS, _REMEDY)
    return teacher.eval().requires_grad_(False).to(generator.device)
