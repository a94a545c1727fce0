"""Augmentation of training samples by albumentations, seeded for each sample."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would contact a server

from dataclasses import dataclass
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from common.seeding import step_seed
from datasets import Dataset
from datasets.batches import Key
from datasets.fetch import fetch
from datasets.palette import Palette
from datasets.pseudo_labels import Labelled


@dataclass(frozen=True)
class Augmentation:
    """Strength of the student's augmentation; zero turns a transformation off.

    Args:
        flip: probability that the image is mirrored.
        shift: largest translation, as a share of the image's side.
        scale: largest change of size, as a share of the size.
        rotate: largest rotation in degrees.
        colour: largest change of brightness, contrast and saturation, as a share of each.
        hue: largest shift of hue, as a share of the colour circle.
        blur: probability of a Gaussian blur.
        noise: probability of Gaussian noise.
        grey: probability that the image loses its colour.
    """

    flip: float = 0.5
    shift: float = 0.06
    scale: float = 0.15
    rotate: float = 12.0
    colour: float = 0.3
    hue: float = 0.04
    blur: float = 0.2
    noise: float = 0.3
    grey: float = 0.05

    def build(self, ignore_index: int) -> A.Compose:
        """The transformations of images and their masks.

        Args:
            ignore_index: mask value of pixels that come in from beyond the border.
        """
        return A.Compose(
            [
                A.HorizontalFlip(p=self.flip),
                A.Affine(
                    translate_percent=(-self.shift, self.shift),
                    scale=(1 - self.scale, 1 + self.scale),
                    rotate=(-self.rotate, self.rotate),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_NEAREST,
                    border_mode=cv2.BORDER_REFLECT_101,
                    fill_mask=ignore_index,
                    p=0.8 if self.shift or self.scale or self.rotate else 0.0,
                ),
                A.ColorJitter(
                    brightness=(1 - self.colour, 1 + self.colour),
                    contrast=(1 - self.colour, 1 + self.colour),
                    saturation=(1 - self.colour, 1 + self.colour),
                    hue=(-self.hue, self.hue),
                    p=0.8 if self.colour or self.hue else 0.0,
                ),
                A.ToGray(p=self.grey),
                A.GaussianBlur(blur_limit=(3, 3), sigma_limit=(0.3, 1.0), p=self.blur),
                A.GaussNoise(std_range=(0.01, 0.05), p=self.noise),
            ],
            additional_targets=dict.fromkeys(("confidence", "runners_up", "places"), "mask"),
        )


class Sample(NamedTuple):
    """A training sample: `Labelled` after augmentation.

    Attributes:
        image: uint8 [3, H, W].
        mask: class indices, int64 [H, W].
        confidence: probability of the mask's class, float [H, W] in [0, 1].
        runners_up: the next classes and their probabilities as in `Labelled`, uint8 [2 (k - 1), H, W].
        number: index in the data set, [].
        original: the image before augmentation, uint8 [3, H, W]; [0] where nobody asked for it.
        places: index of the pixel of `original`, row by row, that each pixel comes from, int64 [H, W]; [0]
            where nobody asked for them.
    """

    image: Tensor
    mask: Tensor
    confidence: Tensor
    runners_up: Tensor
    number: Tensor
    original: Tensor
    places: Tensor


class Augmented(Dataset[Any]):
    """A data set of `Labelled` items with augmentation: item (epoch, index) is a `Sample`.

    Args:
        source: the data set.
        augmentation: the transformations; none to leave samples as they are.
        ignore_index: mask value of pixels that come in from beyond the border.
        seed: the augmentation of an item depends on (seed, epoch, index) only.
        traced: whether samples have the original image, and say where each pixel comes from.
        palette: colours that some images take on first; none to leave them theirs.
    """

    def __init__(
        self,
        source: Dataset[Any],
        augmentation: Augmentation | None,
        ignore_index: int,
        seed: int,
        traced: bool = False,
        palette: Palette | None = None,
    ) -> None:
        self.source, self.seed, self.palette = source, seed, palette
        self.transform = augmentation.build(ignore_index) if augmentation else None
        self.traced = traced

    def __getitems__(self, keys: list[Key]) -> list[Sample]:
        items = fetch(self.source, [index for _, index in keys])
        return [self._prepare(key, Labelled(*item)) for key, item in zip(keys, items, strict=True)]

    def __getitem__(self, key: Key) -> Sample:
        return self.__getitems__([key])[0]

    def _prepare(self, key: Key, item: Labelled) -> Sample:
        image, mask, confidence, runners_up = item
        if self.palette:
            image = self.palette.lend(image, step_seed(self.seed, *key))
        original, places = self._trace(image)
        if self.transform is not None:
            self.transform.set_random_seed(step_seed(self.seed, *key) % 2**32)
            arrays = {"mask": mask.numpy(), "confidence": confidence.numpy()}
            if len(runners_up):
                arrays["runners_up"] = np.ascontiguousarray(runners_up.permute(1, 2, 0).numpy())
            if self.traced:
                arrays["places"] = places.float().numpy()
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            out = self.transform(image=pixels, **arrays)
            image = torch.from_numpy(out["image"]).permute(2, 0, 1)
            mask, confidence = torch.from_numpy(out["mask"]), torch.from_numpy(out["confidence"])
            if len(runners_up):
                runners_up = torch.from_numpy(out["runners_up"]).permute(2, 0, 1)
            if self.traced:
                places = torch.from_numpy(out["places"]).long()
        number = torch.tensor(key[1])
        return Sample(
            image, mask.long(), confidence.float() / 255, runners_up, number, original, places
        )

    def _trace(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the index of each of its pixels."""
        if not self.traced:
            return torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        height, width = image.shape[-2:]
        return image, torch.arange(height * width).view(height, width)


class Exact(Dataset[Any]):
    """Images with true masks as `Labelled` items, certain everywhere.

    Args:
        source: data set of pairs (image, mask), uint8 [3, H, W] and uint8 [H, W].
    """

    def __init__(self, source: Dataset[Any]) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Labelled:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Labelled]:
        return [
            Labelled(image, mask, torch.full_like(mask, 255), mask.new_empty(0, *mask.shape))
            for image, mask in fetch(self.source, indices)
        ]
