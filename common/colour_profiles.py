"""Images in the colours of an ICC profile -> sRGB."""

import io
from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageCms

_EQUAL = 3  # shades; profiles of sRGB by different makers differ by as much
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # the profile's name for what a mode holds


def in_srgb(image: Image.Image) -> Image.Image:
    """An image without transparency as RGB.

    Colours stay as they are where there is no profile, or one of sRGB, or where it is damaged or belongs to
    images of another kind: viewers leave it aside then, too.
    """
    profile = image.info.get("icc_profile")
    mode = image.mode if image.mode in _SPACES else "RGB"
    if profile and (to_srgb := _transform(profile, mode)):
        return cast(Image.Image, ImageCms.applyTransform(image.convert(mode), to_srgb))
    return image.convert("RGB")


@lru_cache(16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; none where there is nothing to do."""
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if theirs.profile.xcolor_space != _SPACES[mode]:
            return None
        ours = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(theirs, ours, mode, "RGB")
        samples = _samples(mode)
        moved = cast(Image.Image, ImageCms.applyTransform(samples, transform))
    except (
        ImageCms.PyCMSError,
        ImportError,
        OSError,
        ValueError,
    ):  # ImportError: Pillow without LittleCMS
        return None
    change = np.asarray(moved, np.int16) - np.asarray(samples.convert("RGB"), np.int16)
    return None if np.abs(change).max() <= _EQUAL else transform


def _samples(mode: str) -> Image.Image:
    """Colours from all over a mode's space, [1, N]."""
    axis = np.linspace(0, 255, 9).round().astype(np.uint8)
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    grid = np.stack(np.meshgrid(*[axis] * channels, indexing="ij"), -1).reshape(1, -1, channels)
    return (
        Image.fromarray(grid[..., 0])
        if mode == "L"
        else Image.frombytes(mode, (grid.shape[1], 1), grid.tobytes())
    )
