"""A timm network that guesses the code of an image, a start for its inversion.

As in Richardson et al., "Encoding in Style" (2021), an image network gives offsets from the mean code.

Shapes: B = images, D = length of a code, R = the generator's resolution.
"""

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoints import load_weights
from common.errors import UserError
from common.files import read_fields
from teacher.generators.base import FeatureGenerator, mean_latents

WEIGHTS = "encoder.safetensors"
ARCHITECTURE = "encoder.json"
_LARGEST = 256  # side of the images that the network sees, at most


class InversionEncoder(nn.Module):
    """Images [B, 3, R, R], uint8 or float in [0, 255] -> one code for each, [B, D].

    Args:
        backbone: name of a timm model.
        resolution: R.
        w_mean, deviation: mean and standard deviation of the generator's codes, [D].
        pretrained: start from timm's weights.

    Raises:
        UserError: there is no such network, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor
    w_mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: str,
        resolution: int,
        w_mean: Tensor,
        deviation: Tensor,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.side = min(resolution, _LARGEST)
        self.network = _build(backbone, len(w_mean), self.side, pretrained)
        about = getattr(self.network, "pretrained_cfg", None) or {}
        for name, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            value = 255 * torch.tensor(about.get(name, default)).view(3, 1, 1)
            self.register_buffer(name, value)
        self.register_buffer("w_mean", w_mean.clone())
        self.register_buffer("deviation", deviation.clone())

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean) / self.std
        if x.shape[-1] > self.side:
            x = F.adaptive_avg_pool2d(x, self.side)
        return self.w_mean + self.deviation * self.network(x)


def _build(name: str, outputs: int, side: int, pretrained: bool) -> nn.Module:
    """A timm network from images [B, 3, side, side] to `outputs` numbers.

    Raises:
        UserError: there is no such network for images of that size, or its weights cannot be had.
    """
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=outputs)
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"inversion_encoder.backbone {name!r} cannot be built for images of {side} px ({error}); see "
            "timm.list_models() for names of convolutional networks."
        ) from error
    except OSError as error:
        raise UserError(
            f"the weights of {name!r} cannot be downloaded ({type(error).__name__}): go online once to "
            "fill timm's cache, or set inversion_encoder.pretrained false."
        ) from error
    return network.train()


def load_inversion_encoder(
    folder: Path, generator: FeatureGenerator, source: str
) -> InversionEncoder:
    """Read a trained encoder for guessing.

    Args:
        source: hash of the generator's artefact.

    Raises:
        UserError: a file is missing or damaged, or the encoder belongs to another generator.
    """
    remedy = "run `inversion_encoder` again"
    about = read_fields(folder / ARCHITECTURE, {"network": str, "generator": str}, remedy)
    if about["generator"] != source:
        raise UserError(
            f"{folder} was trained on another generator; run `train.py inversion_encoder` with this one."
        )
    blank = torch.zeros(mean_latents(generator)[generator.code].shape[-1])
    encoder = InversionEncoder(about["network"], generator.resolution, blank, blank)
    load_weights(encoder, folder / WEIGHTS, remedy)
    return encoder.eval().requires_grad_(False).to(generator.device)
