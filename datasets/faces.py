"""Rendered face portraits with exact masks: an endless data set that needs no files.

Every face is a pure function of (seed, index, resolution). It is painted back to front: background, the
hair behind, neck and clothes, ears, the head with its parts, the hair in front; then light, camera blur
and noise. The parts of the face lie on an ellipsoid turned by yaw and pitch, so that they shorten and
vanish round the side as on a real head. `datasets/portrait/` paints the parts.
"""

from typing import Any

import torch
from torch import Tensor

from datasets import Dataset
from datasets.labels import LabelSet
from datasets.portrait import CLASS_NAMES
from datasets.portrait.hair import Hair
from datasets.portrait.head import ear_traits, head_outline, paint_ears, paint_head
from datasets.portrait.painting import Canvas, RandomStream, mixture, pick
from datasets.portrait.parts import (
    paint_eyes_and_brows,
    paint_glasses,
    paint_mouth,
    paint_nose,
)
from datasets.portrait.scene import (
    Light,
    any_colour,
    background,
    expose,
    paint_body,
    paint_clutter,
    place_head,
    tint,
)
from datasets.portrait.world import STUDIO, World

__all__ = ["CLASS_NAMES", "RenderedFaces", "render_faces"]

_CHUNK = 32  # faces rendered at once: their fields stay in the processor's cache


def render_faces(
    seed: int, indices: Tensor, resolution: int, world: World = STUDIO
) -> tuple[Tensor, Tensor]:
    """Render faces on the device of `indices`.

    Args:
        seed: seed of the stream of faces.
        indices: numbers of the faces in the stream, [B].
        resolution: side R of the images.
        world: what the faces have in common.

    Returns:
        Images, uint8 [B, 3, R, R], and masks, uint8 [B, R, R] with the indices of `CLASS_NAMES`.
    """
    parts = [_draw(RandomStream(seed, chunk), resolution, world) for chunk in indices.split(_CHUNK)]
    return torch.cat([rgb for rgb, _ in parts]), torch.cat([mask for _, mask in parts])


def _draw(rng: RandomStream, resolution: int, world: World) -> tuple[Tensor, Tensor]:
    frame = place_head(rng, resolution, world)
    skin = pick(world.skin, mixture(world.skin_weights, rng))
    skin = skin * tint(rng, 0.06) * rng.uniform(0.9, 1.06).unsqueeze(1)
    hair_colour = pick(world.hair, mixture(world.hair_weights, rng)) * tint(rng, 0.10)
    dyed = rng.chance(world.dyed).unsqueeze(1)
    hair_colour = torch.where(dyed, any_colour(rng), hair_colour)

    canvas = Canvas(background(rng, frame, skin, hair_colour), frame.pixels_per_unit)
    head = head_outline(rng, frame)
    hair = Hair(rng, frame, head, hair_colour)
    light = Light(rng, frame, world)

    if world.clutter:
        paint_clutter(rng, canvas, frame, world.clutter)
    hair.paint_behind(canvas)
    paint_body(rng, canvas, frame, skin)
    ears = ear_traits(rng, frame)
    paint_ears(canvas, frame, ears, skin, light, behind=True)
    paint_head(rng, canvas, frame, head, skin, light)
    paint_mouth(rng, canvas, frame, skin)
    paint_nose(rng, canvas, frame, skin, light)
    paint_eyes_and_brows(rng, canvas, frame, skin, hair_colour)
    if world.glasses:
        paint_glasses(rng, canvas, frame, world.glasses)
    paint_ears(canvas, frame, ears, skin, light, behind=False)
    hair.paint_in_front(canvas)
    return expose(rng, canvas, light, world), canvas.mask


class RenderedFaces(Dataset[Any]):
    """`count` faces of the stream `seed`: item i is (uint8 [3, R, R], mask uint8 [R, R]).

    Args:
        seed: seed of the stream.
        count: number of faces.
        resolution: side R of the images.
        first: number of the first face in the stream.
        labels: label set of the masks; none for `CLASS_NAMES`.
    """

    def __init__(
        self, seed: int, count: int, resolution: int, first: int = 0, labels: LabelSet | None = None
    ) -> None:
        self.seed, self.count, self.resolution, self.first = seed, count, resolution, first
        self.table = None if labels is None else torch.from_numpy(labels.table(CLASS_NAMES))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """A batch rendered at once, several times faster than one by one; the data loader calls this."""
        return list(zip(*self._draw(torch.tensor(indices)), strict=True))

    def whole(self) -> tuple[Tensor, Tensor]:
        """All images [N, 3, R, R] and masks [N, R, R]."""
        return self._draw(torch.arange(len(self)))

    def _draw(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, masks = render_faces(self.seed, indices + self.first, self.resolution)
        return images, masks if self.table is None else self.table[masks.long()]
