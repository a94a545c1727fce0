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
            model whose weights lie in a folder of yours or on a hub. One that takes images of one size is
            given them resized to that (docs/encoders.md).
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


@dataclass(frozen=True)
class SizedNetwork(NetworkConfig):
    """An architecture, and the size of the images that it is for.

    Args:
        resolution: side of the square images that the run has, in pixels; none where it is not known.
        encoder_size: side of the square that the encoder takes; none where it takes any size, or is not
            built yet.
    """

    resolution: int | None = None
    encoder_size: int | None = None


Build = Callable[[NetworkConfig, int], nn.Module]  # makes the network for a number of classes


def for_images_of(resolution: int, build: Build) -> Build:
    """The same, of networks that know the side of their square images."""
    return lambda config, classes: build(
        SizedNetwork(**vars(config) | {"resolution": resolution}), classes
    )


class Student(nn.Module, ABC):
    """Images [B, 3, H, W], uint8 or float in [0, 255] -> logits [B, classes, H, W].

    A decoder is a subclass: its `__init__` makes its layers after this one's, `decode` runs them.

    An encoder of one size is given the whole image resized to that square, and the logits are resized
    back. For one that takes any size the image is padded, and the logits are cropped.

    Attributes:
        config: what it was built from, with the size of its encoder.
        channels, strides: of the encoder's feature maps, from the finest on.
        encoder_size: side of the square that the encoder takes, in pixels; none for any size.
        classes: number of classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        known = config if isinstance(config, SizedNetwork) else SizedNetwork(**vars(config))
        self.encoder, size = build_encoder(
            config.encoder, config.levels, config.pretrained, known.resolution, known.encoder_size
        )
        name = portable_name(config.encoder, config.levels, self.encoder, size)
        self.config = replace(known, encoder=name, encoder_size=size)
        self.classes, self.encoder_size = classes, size
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
        logits = self.decode(x, self.features(x))
        if self.encoder_size and (height, width) != (self.encoder_size, self.encoder_size):
            return F.interpolate(logits, (height, width), mode="bilinear", antialias=True)
        return logits[..., :height, :width]

    def maps(self, images: Tensor) -> list[Tensor]:
        """The encoder's feature maps [B, C, h, w] of images, from the finest on."""
        return self.features(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Images standardised as the encoder wants them, at a size that its strides divide."""
        x = (images.float() - self.mean) / self.std
        if size := self.encoder_size:
            square = (size, size)
            same = x.shape[-2:] == square
            return x if same else F.interpolate(x, square, mode="bilinear", antialias=True)
        stride = max(self.strides)
        # Not `-side % stride`: torch.compile cannot bound that where sizes change.
        bottom, right = ((stride - side % stride) % stride for side in images.shape[-2:])
        return F.pad(x, (0, right, 0, bottom))

    def features(self, x: Tensor) -> list[Tensor]:
        """The encoder's feature maps [B, C, h, w] of normalised images, from the finest on."""
        levels = self.encoder(x)
        if self.channels_last:
            levels = [f.permute(0, 3, 1, 2) for f in levels]
        if size := self.encoder_size:
            sides = [size // stride for stride in self.strides]
            levels = [_with_border(f, side) for f, side in zip(levels, sides, strict=True)]
        return list(levels)


def _with_border(x: Tensor, side: int) -> Tensor:
    """A map [B, C, h, w] with zeros around it up to a side, where convolutions left its border off."""
    height, width = (side - old for old in x.shape[-2:])
    if not height and not width:
        return x
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
