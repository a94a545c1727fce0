"""The student: any timm encoder and a light decoder.

The decoder is a narrow U-Net (Ronneberger et al., 2015): at every resolution the encoder's map and
what comes from the coarser one meet in a single convolution. The last step joins a convolution on the
picture itself, so that small parts keep their edges. It is taken at the picture's size or, for large
pictures, at a half or a quarter of it, where one place gives the logits of a block of pixels (sub-pixel
convolution, Shi et al., 2016): most of the decoder's work is there.

Shapes: B = batch, H, W = pixels, any size; s = output stride.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoints import load_weights
from common.errors import UserError
from common.files import read_json

WEIGHTS = "student.safetensors"
ARCHITECTURE = "student.json"

_LOCAL = "local-dir:"  # timm's word before a folder

Predict = Callable[[Tensor], Tensor]  # uint8 pictures [N, 3, H, W] -> label maps, uint8 [N, H, W]


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of the student.

    Args:
        encoder: name of any timm model that gives features; `local-dir:FOLDER` and `hf-hub:NAME` for one
            whose weights lie in a folder of yours or on a hub.
        pretrained: start from its weights (timm's are downloaded the first time).
        levels: how many of the encoder's resolutions are used, from the finest on; of a transformer that
            has one resolution, as many blocks from all of its depth.
        decoder_width: channels of the decoder at the finest level; each coarser one has half as many more.
        detail_channels: channels of the convolution on the picture itself.
        output_stride: pixels from one place of the decoder's last maps to the next; for large pictures 2 or
            4, with so many times the channels there.
    """

    encoder: str = "resnet18"
    pretrained: bool = False
    levels: int = 4
    decoder_width: int = 32
    detail_channels: int = 16
    output_stride: int = 1


def build_encoder(config: NetworkConfig) -> nn.Module:
    """Create the timm encoder; errors name the option and the remedy."""
    try:
        encoder = _create(config, range(config.levels))
        reductions = [level["reduction"] for level in encoder.feature_info.info]
        if len({*reductions}) == 1 and config.levels > 0:
            # A plain transformer has one resolution: levels are blocks, spread evenly to the last one.
            last, step = len(reductions) - 1, len(reductions) / config.levels
            encoder = _create(config, [last - int(i * step) for i in range(config.levels)][::-1])
        strides = encoder.feature_info.reduction()
        height, width = 3 * max(strides), 5 * max(strides)
        with torch.enable_grad():
            maps = encoder.eval()(torch.zeros(1, 3, height, width))
            sum(f.sum() for f in maps).backward()
        for f, stride in zip(maps, strides, strict=True):
            if tuple(f.shape[1:3] if _is_nhwc(encoder) else f.shape[2:]) != (
                height // stride,
                width // stride,
            ):
                raise RuntimeError("its maps are no whole fractions of a picture")
    except OSError as error:  # before ValueError: some of the hub's errors are both
        raise UserError(_not_to_be_had(config, error)) from error
    except (
        RuntimeError, IndexError, AssertionError, AttributeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise UserError(
            f"student.network.encoder {config.encoder!r} with {config.levels} levels cannot be built "
            f"for pictures of any size ({error}); see timm.list_models() for names and lower "
            "student.network.levels."
        ) from error
    for parameter in encoder.parameters():  # some families keep layers behind the last level
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return encoder.train()  # type: ignore[no-any-return]


def _not_to_be_had(config: NetworkConfig, error: OSError) -> str:
    """What to do where an encoder's files are neither here nor to be downloaded."""
    if config.encoder.startswith(_LOCAL):
        return (
            f"student.network.encoder {config.encoder!r} cannot be read ({error}); that folder is to hold "
            "what timm.models.save_for_hf writes, config.json and the weights."
        )
    remedy = (
        "name the model itself" if ":" in config.encoder else "set student.network.pretrained false"
    )
    return (
        f"the weights of {config.encoder!r} cannot be downloaded ({type(error).__name__}): go online once "
        f"to fill timm's cache, or {remedy}."
    )


def _create(config: NetworkConfig, indices: Sequence[int]) -> Any:
    """The timm model that gives these of its feature maps."""
    create = partial(
        timm.create_model, config.encoder, pretrained=config.pretrained, features_only=True,
        out_indices=tuple(indices),
    )  # fmt: skip
    try:
        return create(dynamic_img_size=True)  # transformers take one size only, if not told so
    except TypeError:  # convolutions take any, and do not know the option
        return create()


def _placeless(config: NetworkConfig, encoder: nn.Module, architecture: str) -> NetworkConfig:
    """The config that builds the same encoder without the place that its weights came from.

    Raises:
        UserError: timm's own network of that name is another one.
    """
    config = replace(config, encoder=architecture)
    plain = build_encoder(replace(config, pretrained=False)).eval()
    noise, same = torch.rand(1, 3, 64, 64), False
    try:
        plain.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            pairs = zip(plain(noise), encoder.eval()(noise), strict=True)
            same = all(torch.equal(*pair) for pair in pairs)
    except RuntimeError:  # shapes differ
        pass
    if not same:
        raise UserError(
            f"student.network.encoder: the weights are of a changed {architecture} (model_args in its "
            "config.json); take one that timm builds by that name alone."
        )
    encoder.train()
    return config


def _is_nhwc(encoder: nn.Module) -> bool:
    """Whether its maps come as [B, h, w, C]."""
    return "NHWC" in str(getattr(encoder, "output_fmt", ""))


class Student(nn.Module):
    """Pictures [B, 3, H, W], uint8 or float in [0, 255] -> logits [B, classes, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        self.encoder = build_encoder(config)
        about: dict[str, Any] = getattr(self.encoder, "pretrained_cfg", None) or {}
        if ":" in config.encoder:  # the place of the weights; once trained, these are our own
            config = _placeless(config, self.encoder, about["architecture"])
        self.config = config
        channels: list[int] = self.encoder.feature_info.channels()  # type: ignore[union-attr, operator]
        strides: list[int] = self.encoder.feature_info.reduction()  # type: ignore[union-attr, operator]
        width, s = config.decoder_width, config.output_stride
        if s < 1 or strides[0] % s:
            raise UserError(
                f"student.network.output_stride is {s}; the finest map of {config.encoder!r} has one place "
                f"for {strides[0]} pixels, so choose a divisor of that."
            )
        widths = [width + i * width // 2 for i in range(len(channels))]
        self.lateral = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(channels, widths, strict=True)
        )
        self.merge = nn.ModuleList(_conv(a + b, a) for a, b in pairwise(widths))
        # One place that speaks for a block of pixels has more to keep.
        detail, last = s * config.detail_channels, s * width
        self.detail = _conv(3, detail, s + 2, s)  # sees a block and the pixels around it
        self.join = nn.Sequential(_conv(width + detail, last), _conv(last, last))
        self.classify = nn.Conv2d(last, classes * s * s, 1)
        self.spread = nn.PixelShuffle(s) if s > 1 else nn.Identity()
        # All sides become multiples of the coarsest stride, so that every step up is by a whole number.
        self.stride = max(strides)
        self.steps = [b // a for a, b in pairwise([s, *strides])]
        self.channels_last = _is_nhwc(self.encoder)
        for name, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            value = 255 * torch.tensor(about.get(name, default)).view(3, 1, 1)
            self.register_buffer(name, value)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        x = self.normalised(pictures)
        levels = [lateral(f) for lateral, f in zip(self.lateral, self.features(x), strict=True)]
        y = levels[-1]
        for level, merge, step in zip(
            levels[-2::-1], reversed(self.merge), self.steps[:0:-1], strict=True
        ):
            y = merge(torch.cat([level, _enlarged(y, step, "nearest")], 1))
        y = torch.cat([_enlarged(y, self.steps[0], "bilinear"), self.detail(x)], 1)
        return self.spread(self.classify(self.join(y)))[..., :height, :width]

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The encoder's maps [B, C, h, w] of pictures, from the finest on."""
        return self.features(self.normalised(pictures))

    def normalised(self, pictures: Tensor) -> Tensor:
        """Pictures as the encoder wants them, with margins below and beside where it needs them."""
        x = (pictures.float() - self.mean) / self.std
        # Not `-height % stride`: torch.compile cannot bound that where sizes change.
        below, beside = (
            (self.stride - side % self.stride) % self.stride for side in pictures.shape[-2:]
        )
        return F.pad(x, (0, beside, 0, below))

    def features(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps [B, C, h, w] of a normalised picture, from the finest on."""
        levels = self.encoder(x)
        return [f.permute(0, 3, 1, 2) for f in levels] if self.channels_last else list(levels)


Build = Callable[[NetworkConfig, int], nn.Module]  # a network for so many classes


def _enlarged(x: Tensor, times: int, mode: str) -> Tensor:
    """A map, so many times as large; exporters see numbers, not sizes to be worked out."""
    return x if times == 1 else F.interpolate(x, scale_factor=times, mode=mode)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def describe(config: NetworkConfig, names: tuple[str, ...], resolution: int) -> dict[str, Any]:
    """What `load_student` needs beside the weights."""
    network = {k: v for k, v in vars(config).items() if k != "pretrained"}
    return {"network": network, "classes": list(names), "resolution": resolution}


def load_student(
    folder: Path, architecture: str = ARCHITECTURE, weights: str = WEIGHTS
) -> tuple[Student, dict[str, Any]]:
    """Read a trained student for inference, and what `describe` said of it."""
    about = read_json(folder / architecture)
    student = Student(NetworkConfig(**about["network"]), len(about["classes"]))
    load_weights(student, folder / weights, "run `student` again")
    return student.eval().requires_grad_(False), about


def predictor(network: nn.Module) -> Predict:
    """A network that gives logits, as a function from pictures to label maps on the CPU."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)  # as it was trained: faster

    @torch.no_grad()
    def predict(pictures: Tensor) -> Tensor:
        shown = pictures.to(device, memory_format=torch.channels_last)
        masks: Tensor = network(shown).argmax(1).to(torch.uint8)
        return masks.cpu()

    return predict


def folder_of(source: str) -> Path | None:
    """Where the network of `load_maps` lies, if that is in a folder: then its contents say which it is."""
    folder = Path(source.removeprefix(_LOCAL))
    return folder if source and folder.is_dir() else None


def elsewhere(source: str, folder: Path) -> str:
    """The same network with its folder at another place."""
    return f"{_LOCAL if source.startswith(_LOCAL) else ''}{folder}"


def load_maps(source: str, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """An encoder's maps as a measure of pictures: [N, 3, H, W] in [0, 255] -> maps [N, C, h, w].

    Args:
        source: a finished student folder, or the name of a timm model with pretrained weights:
            `local-dir:FOLDER` where they lie in a folder.
    """
    if Path(source).is_dir():
        network = load_student(Path(source))[0]
    else:
        try:
            network = Student(NetworkConfig(source, pretrained=True), 2)
        except UserError as error:
            raise UserError(
                f"{source!r} is neither a finished student folder nor a timm model whose pretrained "
                f"weights can be had ({error.__cause__ or error}); name another, or go online "
                "once to fill timm's cache."
            ) from error
    return network.eval().requires_grad_(False).to(device).maps


def load_encoder(source: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The same down to one vector a picture: uint8 [N, 3, H, W] -> [N, C], the deepest map's mean."""
    maps = load_maps(source, device)
    return lambda pictures: maps(pictures.to(device))[-1].mean((2, 3))
