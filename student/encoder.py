"""The student's encoder: any timm model that gives feature maps.

Shapes: B = batch, C = channels, H, W = pixels, h, w = places of a feature map.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from common.errors import UserError

LOCAL = "local-dir:"  # timm's prefix of a folder that holds a model


def build_encoder(name: str, levels: int, pretrained: bool) -> nn.Module:
    """Create a timm encoder that gives `levels` feature maps of images of any size.

    Args:
        name: a timm model, `local-dir:FOLDER` or `hf-hub:NAME`.
        levels: number of feature maps, from the finest on; of a plain transformer, number of blocks.
        pretrained: start from the model's weights.

    Raises:
        UserError: timm has no such model, its weights cannot be had, or its maps do not fit.
    """
    try:
        encoder = _create(name, range(levels), pretrained)
        reductions = [level["reduction"] for level in encoder.feature_info.info]
        if len({*reductions}) == 1 and levels > 0:
            # A plain transformer has one resolution: levels are blocks, spread evenly to the last one.
            last, step = len(reductions) - 1, len(reductions) / levels
            blocks = [last - int(i * step) for i in range(levels)][::-1]
            encoder = _create(name, blocks, pretrained)
        _try_backward(encoder)
    except OSError as error:  # before ValueError: some of the hub's errors are both
        raise UserError(_unavailable(name, error)) from error
    except (
        RuntimeError, IndexError, AssertionError, AttributeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise UserError(
            f"student.network.encoder {name!r} with {levels} levels cannot be built for images of any "
            f"size ({error}); see timm.list_models() for names and lower student.network.levels."
        ) from error
    for parameter in encoder.parameters():  # some families keep layers behind the last level
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return encoder.train()  # type: ignore[no-any-return]


def _create(name: str, indices: Sequence[int], pretrained: bool) -> Any:
    """The timm model that gives these of its feature maps."""
    create = partial(
        timm.create_model,
        name,
        pretrained=pretrained,
        features_only=True,
        out_indices=tuple(indices),
    )
    try:
        return create(dynamic_img_size=True)  # without it, transformers take one size only
    except TypeError:  # convolutional models take any size, and do not know the option
        return create()


def _try_backward(encoder: Any) -> None:
    """Run an image through the encoder and back, which shows its maps' sizes and what can learn.

    Raises:
        RuntimeError: the maps' sides are not the image's divided by their strides.
    """
    strides = encoder.feature_info.reduction()
    height, width = 3 * max(strides), 5 * max(strides)
    with torch.enable_grad():
        maps = encoder.eval()(torch.zeros(1, 3, height, width))
        sum(f.sum() for f in maps).backward()
    for f, stride in zip(maps, strides, strict=True):
        sides = f.shape[1:3] if is_channels_last(encoder) else f.shape[2:]
        if tuple(sides) != (height // stride, width // stride):
            raise RuntimeError("the sides of its maps are no whole fractions of the image's")


def _unavailable(name: str, error: OSError) -> str:
    """The error for a model whose files are neither here nor to be downloaded."""
    if name.startswith(LOCAL):
        return (
            f"student.network.encoder {name!r} cannot be read ({error}); the folder must hold what "
            "timm.models.save_for_hf writes, config.json and the weights."
        )
    remedy = "name the model itself" if ":" in name else "set student.network.pretrained false"
    return (
        f"the weights of {name!r} cannot be downloaded ({type(error).__name__}): go online once to fill "
        f"timm's cache, or {remedy}."
    )


def portable_name(name: str, levels: int, encoder: nn.Module) -> str:
    """The name by which timm alone builds the same encoder: `local-dir:` and `hf-hub:` stripped.

    A trained student holds its encoder's weights, and must load where that folder or hub is not.

    Raises:
        UserError: timm's own model of that name is another network.
    """
    if ":" not in name:
        return name
    architecture = str(encoder.pretrained_cfg["architecture"])  # type: ignore[index]
    plain = build_encoder(architecture, levels, pretrained=False).eval()
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
    return architecture


def is_channels_last(encoder: nn.Module) -> bool:
    """Whether its maps come as [B, h, w, C]."""
    return "NHWC" in str(getattr(encoder, "output_fmt", ""))


def feature_channels(encoder: nn.Module) -> list[int]:
    """Channels of each feature map, from the finest on."""
    return list(encoder.feature_info.channels())  # type: ignore[union-attr, operator]


def feature_strides(encoder: nn.Module) -> list[int]:
    """Pixels from one place of each feature map to the next, from the finest on."""
    return list(encoder.feature_info.reduction())  # type: ignore[union-attr, operator]


def input_statistics(encoder: nn.Module) -> dict[str, Tensor]:
    """`mean` and `std` [3, 1, 1] of the images in [0, 255] that the encoder was made for."""
    about: dict[str, Any] = getattr(encoder, "pretrained_cfg", None) or {}
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return {
        name: 255 * torch.tensor(about.get(name, default)).view(3, 1, 1)
        for name, default in imagenet.items()
    }
