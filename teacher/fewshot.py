"""FewShotCNN: five convolutions from a generator's features to the classes.

After "Repurposing GANs for One-shot Semantic Part Segmentation" (Tritrong et al., 2021): a small
network on all feature maps, upsampled to the image, is enough to name the parts that the generator
already tells apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datasets.artifacts import UserError, plain, read_json
from teacher.hypercolumn import HypercolumnConv, Interpolation

WEIGHTS = "teacher.safetensors"
ARCHITECTURE = "teacher.json"


@dataclass(frozen=True)
class FewShotConfig:
    """Architecture of the teacher.

    Args:
        widths: channels of the convolutions before the last one.
        dilations: of all convolutions; the first, on the hypercolumn, has none.
        slope: of LeakyReLU.
        upsampling: how the feature maps reach the image's size.
        dropout: share of the hypercolumn's channels that a training step leaves out.
    """

    widths: tuple[int, ...] = (128, 64, 64, 32)
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1)
    slope: float = 0.2
    upsampling: Interpolation = "nearest"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if len(self.dilations) != len(self.widths) + 1 or self.dilations[0] != 1:
            raise UserError(
                f"teacher.network: {len(self.widths)} widths need {len(self.widths) + 1} dilations, "
                f"the first of them 1; got {list(self.dilations)}."
            )


class FewShotCNN(nn.Module):
    """Feature maps of a generator -> logits [B, classes, S, S]."""

    def __init__(
        self, config: FewShotConfig, channels: Sequence[int], size: int, classes: int
    ) -> None:
        super().__init__()
        self.config = config
        self.first = HypercolumnConv(channels, config.widths[0], size, config.upsampling)
        widths = [*config.widths, classes]
        self.rest = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=d, dilation=d)
            for a, b, d in zip(widths[:-1], widths[1:], config.dilations[1:], strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        features = [F.dropout2d(f, self.config.dropout, self.training) for f in features]
        x = self.first(features)
        for conv in self.rest:
            x = conv(F.leaky_relu(x, self.config.slope))
        return x


def describe(network: FewShotCNN, names: Sequence[str]) -> dict[str, Any]:
    """What `load_teacher` needs beside the weights."""
    return {
        "network": plain(network.config),
        "channels": network.first.channels,
        "size": network.first.size,
        "classes": list(names),
    }


def load_teacher(folder: Path) -> FewShotCNN:
    """Read a trained teacher, frozen, for inference."""
    about = read_json(folder / ARCHITECTURE)
    network = about["network"]
    config = FewShotConfig(**(network | {k: tuple(network[k]) for k in ("widths", "dilations")}))
    teacher = FewShotCNN(config, about["channels"], about["size"], len(about["classes"]))
    try:
        teacher.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder / WEIGHTS} cannot be read ({error}); run `teacher` again."
        ) from error
    return teacher.eval().requires_grad_(False)
