"""What every student is: a timm encoder, an image made ready for it, and a decoder that a subclass adds.

Shapes: B = batch, C = channels, H, W = pixels, any size; h, w = places of a feature map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from student.encoder import (
    build_encoder,
    feature_channels,
    feature_strides,
    input_statistics,
    is_channels_last,
    portable_name,
)


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of the student.

    Args:
        encoder: name of any timm model that gives feature maps; `local-dir:FOLDER` or `hf-hub:NAME` for a
            model whose weights lie in a folder of yours or on a hub.
        decoder: name of the decoder, one of `student.decoders.DECODERS`.
        pretrained: start from the encoder's weights (timm's are downloaded the first time).
        levels: number of the encoder's resolutions that are used, from the finest on; of a transformer
            that has one resolution, number of blocks, spread over its depth.
        decoder_width: channels of the decoder at the finest level; each coarser one has half as many more.
        detail_channels: channels of the convolution on the image itself.
        output_stride: pixels from one place of the decoder's last maps to the next; 2 or 4 make large
            images faster, with as many times the channels there.
    """

    encoder: str = "resnet18"
    decoder: str = "narrow_unet"
    pretrained: bool = False
    levels: int = 4
    decoder_width: int = 32
    detail_channels: int = 16
    output_stride: int = 1


Build = Callable[[NetworkConfig, int], nn.Module]  # makes the network for a number of classes


class Student(nn.Module, ABC):
    """Images [B, 3, H, W], uint8 or float in [0, 255] -> logits [B, classes, H, W].

    A decoder is a subclass: its `__init__` makes its layers after this one's, `decode` runs them.

    Attributes:
        channels, strides: of the encoder's feature maps, from the finest on.
        classes: number of classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, config.levels, config.pretrained)
        name = portable_name(config.encoder, config.levels, self.encoder)
        self.config, self.classes = replace(config, encoder=name), classes
        self.channels = feature_channels(self.encoder)
        self.strides = feature_strides(self.encoder)
        self.channels_last = is_channels_last(self.encoder)
        for key, value in input_statistics(self.encoder).items():
            self.register_buffer(key, value)

    @abstractmethod
    def decode(self, x: Tensor, levels: list[Tensor]) -> Tensor:
        """Logits [B, classes, H, W] of normalised images x [B, 3, H, W] whose sides the strides divide.

        Args:
            levels: the encoder's feature maps [B, C, h, w] of x, from the finest on.
        """

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x = self.normalised(images)
        return self.decode(x, self.features(x))[..., :height, :width]

    def maps(self, images: Tensor) -> list[Tensor]:
        """The encoder's feature maps [B, C, h, w] of images, from the finest on."""
        return self.features(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Images standardised as the encoder wants them, padded to multiples of its coarsest stride."""
        x = (images.float() - self.mean) / self.std
        stride = max(self.strides)
        # Not `-side % stride`: torch.compile cannot bound that where sizes change.
        bottom, right = ((stride - side % stride) % stride for side in images.shape[-2:])
        return F.pad(x, (0, right, 0, bottom))

    def features(self, x: Tensor) -> list[Tensor]:
        """The encoder's feature maps [B, C, h, w] of normalised images, from the finest on."""
        levels = self.encoder(x)
        return [f.permute(0, 3, 1, 2) for f in levels] if self.channels_last else list(levels)
