"""The student's encoder: any timm model that gives feature maps.

Shapes: B = batch, C = channels, H, W = pixels, h, w = places of a feature map.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn

from common.errors import UserError

LOCAL = "local-dir:"  # timm's prefix of a folder that holds a model

# What timm's models raise where they cannot be built, or cannot take an image.
_FAILURES = (
    RuntimeError, IndexError, AssertionError, AttributeError, TypeError, ValueError, KeyError,
    NotImplementedError, ZeroDivisionError,
)  # fmt: skip


def build_encoder(
    name: str, levels: int, pretrained: bool, resolution: int | None = None, size: int | None = None
) -> tuple[nn.Module, int | None]:
    """Create a timm encoder that gives `levels` feature maps.

    Most take images of any size. The others, and plain transformers whose patches do not divide the
    images, are built for one size: the least that they take and that is not below the images'.

    Args:
        name: a timm model, `local-dir:FOLDER` or `hf-hub:NAME`.
        levels: number of feature maps, from the finest on; of a plain transformer, number of blocks.
        pretrained: start from the model's weights.
        resolution: side of the square images that it is for, in pixels; none where it is not known.
        size: the one size, where it was chosen before.

    Returns:
        The encoder, and the side of the square images that it takes; none for any size.

    Raises:
        UserError: timm has no such model, its weights cannot be had, or its maps do not fit.
    """
    create = partial(_create, name, pretrained)
    try:
        if size is None:
            encoder, size = _of_least_size(create, levels, resolution)
        else:
            encoder = _of_one_size(create, levels, size)
    except OSError as error:  # before ValueError: some of the hub's errors are both
        raise UserError(_unavailable(name, error)) from error
    except _FAILURES as error:
        raise UserError(_refusal(name, levels, resolution or size, error)) from error
    _spare_strided_points(encoder)
    for parameter in encoder.parameters():  # some families keep layers behind the last level
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return encoder.train(), size


def _of_least_size(create: Any, levels: int, resolution: int | None) -> tuple[Any, int | None]:
    """The encoder for images of any size or, failing that, for the least size of `_sizes`."""
    try:
        encoder = _with_levels(create, levels)
        _try_backward(encoder)
    except OSError:
        raise
    except _FAILURES as error:
        about = create([0], pretrained=False)
        if levels > (most := len(about.feature_info.info)):
            raise IndexError(f"it has {most} feature maps") from error
        for size in _sizes(about, resolution):
            try:
                return _of_one_size(create, levels, size), size
            except OSError:
                raise
            except _FAILURES as failure:
                error = failure
        raise error from None
    strides = [level["reduction"] for level in encoder.feature_info.info]
    if resolution and _is_plain(strides) and resolution % strides[0]:
        size = resolution + -resolution % strides[0]
        return _of_one_size(create, levels, size), size
    return encoder, None


def _sizes(encoder: Any, resolution: int | None) -> Iterator[int]:
    """Sides to try for images of a resolution: the least first, the model's own last."""
    own = int(encoder.pretrained_cfg["input_size"][-1])
    coarsest = max(level["reduction"] for level in encoder.feature_info.info)
    if resolution:
        # Windows of 7 or 8 places, and pyramids whose coarsest map has an even side.
        steps = (*(times * coarsest for times in (1, 2, 4, 7, 8)), own)
        yield from sorted({resolution + -resolution % step for step in steps})
    yield own


def _of_one_size(create: Any, levels: int, size: int) -> Any:
    """The encoder for images of one size, after it was tried.

    Raises:
        RuntimeError: its strides are no whole numbers of each other, or of the size.
    """
    try:
        encoder = _with_levels(partial(create, img_size=size), levels)
    except TypeError:  # models that do not know the option
        encoder = _with_levels(create, levels)
    strides = encoder.feature_info.reduction()
    if size % strides[-1] or any(b % a for a, b in pairwise(strides)):
        raise RuntimeError(f"its maps' strides, {strides}, do not divide {size} and each other")
    _try_backward(encoder, size)
    return encoder


def _with_levels(create: Any, levels: int) -> Any:
    """The encoder with so many maps: the finest or, of a plain transformer, blocks spread evenly."""
    encoder = create(range(levels))
    strides = [level["reduction"] for level in encoder.feature_info.info]
    if _is_plain(strides) and levels > 0:
        last, step = len(strides) - 1, len(strides) / levels
        encoder = create([last - int(i * step) for i in range(levels)][::-1])
    return encoder


def _is_plain(strides: Sequence[int]) -> bool:
    """Whether a model is a plain transformer, whose maps all have one resolution."""
    return len({*strides}) == 1


def _create(
    name: str,
    weights: bool,
    indices: Sequence[int],
    *,
    pretrained: bool = True,
    img_size: int | None = None,
) -> Any:
    """The timm model that gives these of its feature maps."""
    create = partial(
        timm.create_model,
        name,
        pretrained=weights and pretrained,
        features_only=True,
        out_indices=tuple(indices),
    )
    if img_size is not None:
        return create(img_size=img_size)
    try:
        return create(dynamic_img_size=True)  # without it, transformers take one size only
    except TypeError:  # convolutional models take any size, and do not know the option
        pass
    try:
        return create()
    except (
        AssertionError
    ):  # a stem that is no layer of the model, which only its own method can give
        return create(feature_cls="getter")


def _try_backward(encoder: Any, size: int | None = None) -> None:
    """Run an image through the encoder and back, which shows its maps' sizes and what can learn.

    Args:
        size: side of the image; without one, its sides differ.

    Raises:
        RuntimeError: the maps' sides are not the image's divided by their strides.
    """
    strides = encoder.feature_info.reduction()
    height, width = (size, size) if size else (3 * max(strides), 5 * max(strides))
    with torch.enable_grad():
        maps = encoder.eval()(torch.zeros(1, 3, height, width))
        sum(f.sum() for f in maps).backward()
    for f, stride in zip(maps, strides, strict=True):
        sides = f.shape[1:3] if is_channels_last(encoder) else f.shape[2:]
        whole = (height // stride, width // stride)
        # At one size, the border that convolutions without padding leave off can be added.
        least = [0.75 * side for side in whole] if size else whole
        if not all(a <= b <= c for a, b, c in zip(least, sides, whole, strict=True)):
            raise RuntimeError("the sides of its maps are no whole fractions of the image's")


def _spare_strided_points(encoder: nn.Module) -> None:
    """Have 1x1 convolutions of the image with a stride take every so many pixels, and all of those.

    That is the same. On a CPU, PyTorch 2.14 writes past its memory where it learns such a convolution of
    a channels-last image (RepVGG, MobileOne).
    """
    for layer in encoder.modules():
        if not isinstance(layer, nn.Conv2d) or layer.in_channels != 3:
            continue
        if layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.padding == (0, 0):
            layer.register_forward_pre_hook(partial(_every, layer.stride))
            layer.stride = (1, 1)


def _every(stride: tuple[int, ...], layer: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    """The pixels of a layer's input that a stride touches."""
    return (given[0][..., :: stride[0], :: stride[1]],)


def _refusal(name: str, levels: int, side: int | None, error: Exception) -> str:
    """The error for a model that cannot be built."""
    images = f"{side} x {side} pixels" if side else "any size"
    reason = " ".join(str(error).split())[:300]
    return (
        f"student.network.encoder {name!r} with {levels} levels cannot be built for images of {images} "
        f"({reason}); name another encoder (timm.list_models(), docs/encoders.md) or lower "
        "student.network.levels."
    )


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


def portable_name(name: str, levels: int, encoder: nn.Module, size: int | None = None) -> str:
    """The name by which timm alone builds the same encoder: `local-dir:` and `hf-hub:` stripped.

    A trained student holds its encoder's weights, and must load where that folder or hub is not.

    Args:
        size: the encoder's one size; none if it takes any.

    Raises:
        UserError: timm's own model of that name is another network.
    """
    if ":" not in name:
        return name
    architecture, same = str(encoder.pretrained_cfg["architecture"]), False  # type: ignore[index]
    try:
        plain, its_size = build_encoder(architecture, levels, False, size=size)
        plain.eval().load_state_dict(encoder.state_dict())
        noise = torch.rand(1, 3, size or 64, size or 64)
        with torch.no_grad():
            pairs = zip(plain(noise), encoder.eval()(noise), strict=True)
            same = its_size == size and all(torch.equal(*pair) for pair in pairs)
    except (UserError, *_FAILURES):  # shapes differ, or it takes no images of that size
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
