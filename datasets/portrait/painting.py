"""What the face renderer paints with: random streams, signed distances, a canvas with exact masks.

Shapes: B = faces, H, W = pixels. A trait of a face is [B, 1, 1] and broadcasts over pixels; a field
(distance, light) is [B, H, W]; a colour is [B, 3, 1, 1] or [B, 3, H, W]. Distances are in face
units, negative inside.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """32-bit integer hash (xor-shift-multiply), held in int64 so that products never overflow."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _WORD
    x = ((x ^ (x >> 15)) * 0x46A84C69) & _WORD
    return x ^ (x >> 16)


class RandomStream:
    """Random traits of faces: a function of (seed, index) and the order of the draws, never of the batch.

    Args:
        seed: seed of the stream.
        indices: numbers of the faces, [B].
    """

    def __init__(self, seed: int, indices: Tensor) -> None:
        indices = indices.to(torch.int64)
        key = _mix(torch.full_like(indices, seed & _WORD))
        key = _mix(key ^ _mix(torch.full_like(indices, (seed >> 32) & _WORD)))
        key = _mix(key ^ (indices >> 32))
        self.key = _mix(key ^ (indices & _WORD)).view(-1, 1, 1)
        self.draws = 0

    def _unit(self, slots: Tensor | int) -> Tensor:
        mixed = _mix((self.key + slots * 0x9E3779B9) & _WORD)
        return (mixed >> 8).float() * 2.0**-24

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """One number per face, [B, 1, 1], uniform in [low, high)."""
        self.draws += 1
        return low + (high - low) * self._unit(self.draws)

    def bell(self, centre: float, reach: float) -> Tensor:
        """One number per face, bell-shaped around `centre`, never further than `reach` from it."""
        total = self.uniform(-1, 1) + self.uniform(-1, 1) + self.uniform(-1, 1)
        return centre + total * (reach / 3)

    def chance(self, probability: float) -> Tensor:
        """One boolean per face, [B, 1, 1]."""
        return self.uniform() < probability

    def grain(self, height: int, width: int) -> Tensor:
        """Noise of unit variance per pixel and channel, [B, 3, H, W]."""
        self.draws += 1
        slots = torch.arange(3 * height * width, device=self.key.device).view(1, 3, height, width)
        base = self.key.unsqueeze(1) ^ (self.draws * 0x85EBCA6B & _WORD)
        mixed = _mix((base + slots * 0x9E3779B9) & _WORD)
        low, high = (mixed & 0xFFFF).float(), (mixed >> 16).float()
        return (low + high - 65535.0) * (math.sqrt(6.0) / 65535.0)  # a sum of two has variance 1/6

    def waves(self, x: Tensor, y: Tensor, count: int, low: float, high: float) -> Tensor:
        """A smooth texture: `count` plane waves of random direction; about [-1, 1]."""
        total = torch.zeros_like(x + y)
        for _ in range(count):
            angle, pitch = self.uniform(0, 2 * math.pi), self.uniform(low, high)
            phase = self.uniform(0, 2 * math.pi)
            total += torch.sin(pitch * (angle.cos() * x + angle.sin() * y) + phase)
        return total / math.sqrt(count)


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Distance to an axis-aligned ellipse at the origin (first-order, exact on the outline)."""
    qx, qy = x / rx, y / ry
    k0 = (qx * qx + qy * qy).sqrt()
    gx, gy = qx / rx, qy / ry
    return k0 * (k0 - 1) / (gx * gx + gy * gy).sqrt().clamp_min(1e-4)


def lens(
    x: Tensor, y: Tensor, width: Tensor | float, above: Tensor | float, below: Tensor | float
) -> Tensor:
    """Distance to a lens between two parabolas that meet at x = ±width: an eye, a pair of lips."""
    arch = 1 - (x / width).square()
    return torch.maximum(y - below * arch, -above * arch - y)


def blend_union(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Union of two shapes with a rounded seam."""
    h = (radius - (a - b).abs()).clamp_min(0) / radius
    return torch.minimum(a, b) - h * h * (radius / 4)


def smoothstep(low: Tensor | float, high: Tensor | float, x: Tensor) -> Tensor:
    """0 at `low`, 1 at `high` (which may lie below), smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def mixture(weights: Sequence[float], rng: RandomStream) -> Tensor:
    """One category per face, [B, 1, 1] int64, with the given probabilities."""
    edges = torch.tensor(weights, device=rng.key.device).cumsum(0)[:-1]
    return torch.bucketize(rng.uniform() * sum(weights), edges)


def pick(table: Sequence[Sequence[float]], which: Tensor) -> Tensor:
    """Rows of a colour table, [B, 1, 1] -> [B, 3, 1, 1]."""
    rows = torch.tensor(table, device=which.device)[which.view(-1)]
    return rows.view(-1, 3, 1, 1)


class Canvas:
    """Albedo, light and mask, painted back to front.

    Light is kept apart from albedo, so that a part painted on a surface is lit as that surface is.

    Args:
        albedo: colours of the background, [B, 3, H, W].
        pixels_per_unit: pixels of a face unit, [B, 1, 1].
    """

    def __init__(self, albedo: Tensor, pixels_per_unit: Tensor) -> None:
        self.albedo = albedo.clone()
        self.light = torch.ones_like(albedo[:, 0])
        self.mask = torch.zeros_like(albedo[:, 0], dtype=torch.uint8)
        self.pixels_per_unit = pixels_per_unit

    def coverage(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Share of each pixel inside the shape; `softness` is the width of the edge in pixels."""
        return (0.5 - distance * (self.pixels_per_unit / softness)).clamp(0, 1)

    def paint(
        self,
        distance: Tensor,
        colour: Tensor,
        label: int | None = None,
        light: Tensor | None = None,
        opacity: Tensor | float = 1.0,
        softness: float = 1.0,
    ) -> None:
        """Lay a shape over what is there; where distance < 0 the mask takes its label, if it has one."""
        cover = self.coverage(distance, softness) * opacity
        self.albedo = torch.lerp(self.albedo, colour, cover.unsqueeze(1))
        if light is not None:
            self.light = torch.lerp(self.light, light, cover)
        if label is not None:
            self.mask = torch.where(distance < 0, label, self.mask)

    def shade(self, strength: Tensor) -> None:
        """Darken the light by `strength` in [0, 1]."""
        self.light = self.light * (1 - strength)

    def image(self) -> Tensor:
        """The lit image, [B, 3, H, W] in linear values around [0, 1]."""
        return self.albedo * self.light.unsqueeze(1)
