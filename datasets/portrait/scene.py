"""The scene of a portrait: pose of the head, light, background, body and camera.

Shapes as in `datasets.portrait.painting`. Face units: the head is about 1.2 wide and 1.65 high, x to
the right, y down, the origin between the eyes' outer corners and the nose tip.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.portrait import BACKGROUND
from datasets.portrait.painting import Canvas, RandomStream, ellipse, smoothstep
from datasets.portrait.world import World

_DEPTH = 0.62  # half the head's depth
AWAY = 9.0  # distance of a shape that a face does not have


@dataclass(frozen=True)
class Frame:
    """Coordinates of every pixel: in the frame of the head (x, y) and on its turned surface (u, v)."""

    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor
    yaw: Tensor
    pitch: Tensor
    half_width: Tensor
    normal: tuple[Tensor, Tensor, Tensor]
    pixels_per_unit: Tensor


def place_head(rng: RandomStream, resolution: int, world: World) -> Frame:
    """Draw the pose of the head and the camera, and lay coordinates over the pixels."""
    # Camera: nearly aligned by the eyes, as face sets are.
    axis = (torch.arange(resolution, device=rng.key.device) + 0.5) * (2 / resolution) - 1
    image_x, image_y = axis.view(1, 1, -1), axis.view(1, -1, 1)
    zoom, roll = rng.bell(*world.zoom), rng.bell(0, world.roll)
    image_x, image_y = image_x - rng.bell(0, 0.14), image_y - rng.bell(0.0, 0.14)
    x = (roll.cos() * image_x + roll.sin() * image_y) / zoom
    y = (roll.cos() * image_y - roll.sin() * image_x) / zoom

    # The head's surface: the point of a unit sphere under each pixel, turned back by yaw and pitch.
    yaw, pitch = rng.bell(0, 0.62), rng.bell(0, 0.26)
    half_width, half_height = rng.bell(0.63, 0.06), 0.84
    nx, ny = x / half_width, (y - 0.02) / half_height
    reach = (nx * nx + ny * ny).sqrt().clamp_min(1.0)  # outside pixels take the rim's point
    nx, ny = nx / reach, ny / reach
    nz = (1 - nx * nx - ny * ny).clamp_min(0).sqrt()
    scale_x, scale_y = _DEPTH / half_width, _DEPTH / half_height
    u = nx * yaw.cos() - nz * yaw.sin() * scale_x
    tz = nz * yaw.cos() + nx * yaw.sin() / scale_x
    v = ny * pitch.cos() - tz * pitch.sin() * scale_y
    return Frame(
        x=x, y=y, u=u * half_width, v=v * half_height + 0.02, yaw=yaw, pitch=pitch,
        half_width=half_width, normal=(nx, ny, nz), pixels_per_unit=zoom * (resolution / 2),
    )  # fmt: skip


def tint(rng: RandomStream, strength: float) -> Tensor:
    """A factor per channel around one, [B, 3, 1, 1]."""
    channels = [rng.uniform(1 - strength, 1 + strength) for _ in range(3)]
    return torch.stack(channels, dim=1)


def any_colour(rng: RandomStream) -> Tensor:
    """A random colour, [B, 3, 1, 1]."""
    base = rng.uniform(0.05, 0.9).unsqueeze(1)
    spread = torch.stack([rng.bell(0, 0.35) for _ in range(3)], dim=1)
    return (base + spread).clamp(0.02, 1)


class Light:
    """One lamp and the sky: light on a surface by its normal."""

    def __init__(self, rng: RandomStream, frame: Frame, world: World) -> None:
        side, height = rng.bell(0, 1.1), rng.bell(-0.45, 0.55)
        depth = (1.25 - side.square() * 0.5).clamp_min(0.35)
        length = (side.square() + height.square() + depth.square()).sqrt()
        self.x, self.y, self.z = side / length, height / length, depth / length
        self.lamp = rng.uniform(*world.lamp)
        self.colour = tint(rng, world.lamp_tint)
        nx, ny, nz = frame.normal
        self.head = self.shade(nx, ny, nz)

    def shade(self, nx: Tensor, ny: Tensor, nz: Tensor) -> Tensor:
        """Light on a surface of the given unit normals, around one where the lamp is faced."""
        facing = (nx * self.x + ny * self.y + nz * self.z).clamp_min(0)
        return (1.12 - self.lamp) + self.lamp * facing


def background(rng: RandomStream, frame: Frame, skin: Tensor, hair: Tensor) -> Tensor:
    """Soft or sharp patches of two colours, sometimes near those of skin or hair, [B, 3, H, W]."""
    x, y = frame.x, frame.y
    first, second = any_colour(rng), any_colour(rng)
    near_skin, near_hair = rng.chance(0.14).unsqueeze(1), rng.chance(0.14).unsqueeze(1)
    first = torch.where(near_skin, skin * tint(rng, 0.15), first)
    first = torch.where(near_hair, hair * tint(rng, 0.15), first)

    smooth = 0.5 + 0.5 * rng.waves(x, y, 4, 0.6, 3.5)
    sharp = smoothstep(-0.15, 0.15, rng.waves(x, y, 3, 1.5, 7.0))
    blend = torch.where(rng.chance(0.45), smooth * 0.6 + sharp * 0.4, smooth)
    fine = rng.waves(x, y, 3, 8.0, 22.0) * rng.uniform(0, 0.05)
    vignette = 1 - rng.uniform(0, 0.25) * (x * x + y * y)
    colour = torch.lerp(first, second, blend.clamp(0, 1).unsqueeze(1)) + fine.unsqueeze(1)
    return colour * vignette.unsqueeze(1)


def paint_clutter(rng: RandomStream, canvas: Canvas, frame: Frame, things: int) -> None:
    """Paint things behind the head, boxes and discs of all sizes: background in the mask."""
    for _ in range(things):
        x, y = frame.x - rng.uniform(-1.4, 1.4), frame.y - rng.uniform(-1.4, 1.4)
        width, height = rng.uniform(0.08, 0.6), rng.uniform(0.08, 0.6)
        box = torch.maximum(x.abs() - width, y.abs() - height)
        shape = torch.where(rng.chance(0.5), box, ellipse(x, y, width, height))
        stripes = 0.8 + 0.2 * rng.waves(x, y, 2, 2, 20)
        canvas.paint(shape, any_colour(rng), BACKGROUND, light=stripes)


def paint_body(rng: RandomStream, canvas: Canvas, frame: Frame, skin: Tensor) -> None:
    """Paint neck and clothes: background in the mask, as in the usual eight-class maps."""
    x, y = frame.x, frame.y
    lean = -0.06 * frame.yaw
    width = rng.uniform(0.30, 0.42)
    neck = torch.maximum((x - lean).abs() - width - 0.12 * (y - 0.7).clamp_min(0), 0.5 - y)
    under_chin = 0.62 + 0.25 * smoothstep(0.75, 1.15, y)
    canvas.paint(neck, skin, BACKGROUND, light=under_chin)
    top, slope = rng.uniform(0.98, 1.14), rng.uniform(0.15, 0.5)
    neckline = rng.uniform(0, 0.35) * smoothstep(0.5, 0.0, x.abs())
    cloth = top + slope * x * x - neckline
    cloth = cloth + 2 * neckline - y
    folds = 0.85 + 0.15 * rng.waves(x, y, 3, 3, 12)
    canvas.paint(cloth, any_colour(rng), BACKGROUND, light=folds)


def expose(rng: RandomStream, canvas: Canvas, light: Light, world: World) -> Tensor:
    """Apply lamp colour, exposure, contrast, a little blur and noise, -> uint8 [B, 3, H, W]."""
    image = canvas.image() * light.colour * rng.uniform(*world.exposure).unsqueeze(1)
    contrast = rng.uniform(*world.contrast).unsqueeze(1)
    image = ((image - 0.45) * contrast + 0.45).clamp(0, 1)
    height, width = image.shape[-2:]
    soft = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    soft = soft[..., :-2] + 2 * soft[..., 1:-1] + soft[..., 2:]
    soft = (soft[..., :-2, :] + 2 * soft[..., 1:-1, :] + soft[..., 2:, :]) / 16
    image = torch.lerp(image, soft, rng.uniform(0, 0.9).unsqueeze(1))
    noise = rng.grain(height, width) * (rng.uniform(0, 1).square() * world.grain).unsqueeze(1)
    if world.saturation != (1.0, 1.0):
        grey = image.mean(1, keepdim=True)
        image = grey + (image - grey) * rng.uniform(*world.saturation).unsqueeze(1)
    return ((image + noise).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
