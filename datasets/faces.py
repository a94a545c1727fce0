"""Rendered face portraits with exact masks: an endless data set that ships as a function.

Every face is a pure function of (seed, index, resolution). A face is drawn back to front: a
background, the hair behind, neck and clothes, ears, the head with its parts, the hair in front; then
light, camera blur and noise. The parts of the face lie on an ellipsoid that yaw and pitch turn, so
that they shorten and vanish round the side as on a real head.

Shapes as in `datasets.painting`. Face units: the head is about 1.2 wide and 1.65 high, x to the
right, y down, the origin between the eyes' outer corners and the nose tip.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datasets import Dataset
from datasets.artifacts import UserError
from datasets.painting import (
    Canvas,
    Dice,
    blend_union,
    ellipse,
    lens,
    mixture,
    pick,
    smoothstep,
)

CLASS_NAMES = ("background", "skin", "hair", "eye", "eyebrow", "nose", "mouth", "ear")
BACKGROUND, SKIN, HAIR, EYE, BROW, NOSE, MOUTH, EAR = range(8)

_CHUNK = 32  # faces drawn at once: their fields stay in the processor's cache
_DEPTH = 0.62  # half the head's depth
_AWAY = 9.0  # a distance at which a shape that a face does not have is kept

_SKIN = [
    [0.96, 0.80, 0.70], [0.93, 0.74, 0.62], [0.87, 0.66, 0.52], [0.78, 0.56, 0.41],
    [0.65, 0.44, 0.31], [0.50, 0.33, 0.23], [0.38, 0.25, 0.18],
]  # fmt: skip
_HAIR = [
    [0.07, 0.06, 0.06], [0.17, 0.11, 0.08], [0.32, 0.20, 0.12], [0.48, 0.27, 0.14],
    [0.66, 0.48, 0.28], [0.82, 0.68, 0.44], [0.62, 0.60, 0.58], [0.85, 0.84, 0.82],
]  # fmt: skip
_IRIS = [[0.13, 0.08, 0.05], [0.33, 0.20, 0.10], [0.35, 0.40, 0.22], [0.28, 0.42, 0.58]]


@dataclass(frozen=True)
class _Frame:
    """Where a face's parts lie: image frame of the head (x, y) and its turned surface (u, v)."""

    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor
    yaw: Tensor
    pitch: Tensor
    half_width: Tensor
    normal: tuple[Tensor, Tensor, Tensor]
    pixels_per_unit: Tensor


def render_faces(seed: int, indices: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Draw faces number `indices` [B] of the stream `seed`.

    Returns pictures, uint8 [B, 3, resolution, resolution], and masks, uint8 [B, resolution,
    resolution] with the indices of `CLASS_NAMES`, on the device of `indices`.
    """
    parts = [_draw(Dice(seed, chunk), resolution) for chunk in indices.split(_CHUNK)]
    return torch.cat([rgb for rgb, _ in parts]), torch.cat([mask for _, mask in parts])


def _draw(dice: Dice, resolution: int) -> tuple[Tensor, Tensor]:
    frame = _place(dice, resolution)
    skin = pick(_SKIN, mixture([3, 4, 4, 3, 2, 2, 1.5], dice))
    skin = skin * _tint(dice, 0.06) * dice.uniform(0.9, 1.06).unsqueeze(1)
    hair_colour = pick(_HAIR, mixture([4, 4, 3, 1.5, 2, 1.5, 0.8, 0.6], dice)) * _tint(dice, 0.10)
    dyed = dice.chance(0.04).unsqueeze(1)
    hair_colour = torch.where(dyed, _any_colour(dice), hair_colour)

    canvas = Canvas(_background(dice, frame, skin, hair_colour), frame.pixels_per_unit)
    head = _head_outline(dice, frame)
    hair = _Hair(dice, frame, head, hair_colour)
    light = _Light(dice, frame)

    hair.paint_behind(canvas)
    _paint_body(dice, canvas, frame, skin)
    ears = _ear_traits(dice, frame)
    _paint_ears(canvas, frame, ears, skin, light, behind=True)
    _paint_head(dice, canvas, frame, head, skin, light)
    _paint_mouth(dice, canvas, frame, skin)
    _paint_nose(dice, canvas, frame, skin, light)
    _paint_eyes_and_brows(dice, canvas, frame, skin, hair_colour)
    _paint_ears(canvas, frame, ears, skin, light, behind=False)
    hair.paint_in_front(canvas)
    return _photograph(dice, canvas, light), canvas.mask


def _tint(dice: Dice, strength: float) -> Tensor:
    """A factor per channel around one, [B, 3, 1, 1]."""
    channels = [dice.uniform(1 - strength, 1 + strength) for _ in range(3)]
    return torch.stack(channels, dim=1)


def _any_colour(dice: Dice) -> Tensor:
    base = dice.uniform(0.05, 0.9).unsqueeze(1)
    spread = torch.stack([dice.bell(0, 0.35) for _ in range(3)], dim=1)
    return (base + spread).clamp(0.02, 1)


def _place(dice: Dice, resolution: int) -> _Frame:
    # Camera: nearly aligned by the eyes, as face sets are.
    axis = (torch.arange(resolution, device=dice.key.device) + 0.5) * (2 / resolution) - 1
    image_x, image_y = axis.view(1, 1, -1), axis.view(1, -1, 1)
    zoom, roll = dice.bell(1.04, 0.13), dice.bell(0, 0.24)
    image_x, image_y = image_x - dice.bell(0, 0.14), image_y - dice.bell(0.0, 0.14)
    x = (roll.cos() * image_x + roll.sin() * image_y) / zoom
    y = (roll.cos() * image_y - roll.sin() * image_x) / zoom

    # The head's surface: the point of a unit sphere under each pixel, turned back by yaw and pitch.
    yaw, pitch = dice.bell(0, 0.62), dice.bell(0, 0.26)
    half_width, half_height = dice.bell(0.63, 0.06), 0.84
    nx, ny = x / half_width, (y - 0.02) / half_height
    reach = (nx * nx + ny * ny).sqrt().clamp_min(1.0)  # outside pixels take the rim's point
    nx, ny = nx / reach, ny / reach
    nz = (1 - nx * nx - ny * ny).clamp_min(0).sqrt()
    scale_x, scale_y = _DEPTH / half_width, _DEPTH / half_height
    u = nx * yaw.cos() - nz * yaw.sin() * scale_x
    tz = nz * yaw.cos() + nx * yaw.sin() / scale_x
    v = ny * pitch.cos() - tz * pitch.sin() * scale_y
    return _Frame(
        x=x, y=y, u=u * half_width, v=v * half_height + 0.02, yaw=yaw, pitch=pitch,
        half_width=half_width, normal=(nx, ny, nz), pixels_per_unit=zoom * (resolution / 2),
    )  # fmt: skip


class _Light:
    """One lamp and the sky. Shades surfaces by their normals."""

    def __init__(self, dice: Dice, frame: _Frame) -> None:
        side, height = dice.bell(0, 1.1), dice.bell(-0.45, 0.55)
        depth = (1.25 - side.square() * 0.5).clamp_min(0.35)
        length = (side.square() + height.square() + depth.square()).sqrt()
        self.x, self.y, self.z = side / length, height / length, depth / length
        self.lamp = dice.uniform(0.35, 0.85)
        self.colour = _tint(dice, 0.10)
        nx, ny, nz = frame.normal
        self.head = self.shade(nx, ny, nz)

    def shade(self, nx: Tensor, ny: Tensor, nz: Tensor) -> Tensor:
        """Light on a surface of the given unit normals, around one where the lamp is faced."""
        facing = (nx * self.x + ny * self.y + nz * self.z).clamp_min(0)
        return (1.12 - self.lamp) + self.lamp * facing


def _background(dice: Dice, frame: _Frame, skin: Tensor, hair: Tensor) -> Tensor:
    x, y = frame.x, frame.y
    first, second = _any_colour(dice), _any_colour(dice)
    near_skin, near_hair = dice.chance(0.14).unsqueeze(1), dice.chance(0.14).unsqueeze(1)
    first = torch.where(near_skin, skin * _tint(dice, 0.15), first)
    first = torch.where(near_hair, hair * _tint(dice, 0.15), first)

    smooth = 0.5 + 0.5 * dice.waves(x, y, 4, 0.6, 3.5)
    sharp = smoothstep(-0.15, 0.15, dice.waves(x, y, 3, 1.5, 7.0))
    blend = torch.where(dice.chance(0.45), smooth * 0.6 + sharp * 0.4, smooth)
    fine = dice.waves(x, y, 3, 8.0, 22.0) * dice.uniform(0, 0.05)
    vignette = 1 - dice.uniform(0, 0.25) * (x * x + y * y)
    colour = torch.lerp(first, second, blend.clamp(0, 1).unsqueeze(1)) + fine.unsqueeze(1)
    return colour * vignette.unsqueeze(1)


def _head_outline(dice: Dice, frame: _Frame) -> Tensor:
    jaw_width, chin = dice.bell(0.47, 0.10), dice.bell(0.86, 0.05)
    turn = frame.yaw.sin()
    cranium = ellipse(frame.x, frame.y + 0.16, frame.half_width, 0.66)
    middle = chin - 0.5
    jaw_x = frame.x - 0.10 * turn
    jaw = ellipse(jaw_x, frame.y - middle + 0.10 * frame.pitch, jaw_width, 0.5)
    return blend_union(cranium, jaw, 0.30)


class _Hair:
    """Style and colour of a face's hair: behind the head, over it, and strands beside it."""

    def __init__(self, dice: Dice, frame: _Frame, head: Tensor, colour: Tensor) -> None:
        bald, short, fringe, long, big = range(5)
        style = mixture([0.06, 0.32, 0.18, 0.32, 0.12], dice)
        self.frame, self.colour = frame, colour
        x, y, u, v = frame.x, frame.y, frame.u, frame.v
        has_hair = torch.where(style == bald, _AWAY, 0.0)

        # Strands give a streaky texture that follows the head; a sheen crosses them.
        bend = dice.uniform(-1.5, 1.5)
        streaks = dice.waves(u + bend * v * v * 0.3, v * 0.15, 4, 18, 55)
        nx, ny, nz = frame.normal
        sheen = smoothstep(0.55, 0.95, nz) * smoothstep(-0.15, -0.6, ny)
        self.texture = 1 + streaks * dice.uniform(0.05, 0.22) + sheen * dice.uniform(0, 0.35)
        side_light = 1 + dice.bell(0, 0.5) * nx.clamp(-1, 1)
        self.light = (0.62 + 0.35 * nz) * side_light

        # Over the head: a cap above the hairline, with temples that come down at the sides.
        wave = dice.waves(u, v * 0.0, 2, 6, 16) * 0.03
        centre = torch.where(
            style == fringe, dice.uniform(-0.36, -0.20), dice.uniform(-0.62, -0.42)
        )
        arch = torch.where(style == fringe, dice.uniform(-0.1, 0.5), dice.uniform(0.2, 1.2))
        part_at, part = dice.uniform(-0.3, 0.3), dice.bell(0, 0.5)
        hairline = centre + arch * u * u + part * (u - part_at).abs() * 0.5 + wave
        temple = dice.uniform(0.50, 0.58) * (frame.half_width / 0.63)
        sideburn = torch.where(dice.chance(0.5), dice.uniform(-0.2, 0.0), dice.uniform(0.0, 0.28))
        thick = torch.where(style == big, dice.uniform(0.20, 0.34), dice.uniform(0.05, 0.16))
        thick = torch.where(style == short, dice.uniform(0.02, 0.11), thick)
        lowest = torch.where(style == big, dice.uniform(0.1, 0.5), dice.uniform(-0.2, 0.05))
        taper = ((lowest - y) / 0.5).clamp(0, 1)
        cap = head - thick * taper.sqrt() + dice.waves(x, y, 2, 8, 20) * 0.02 * taper
        cap = torch.maximum(cap, y - lowest - 0.25)
        line = torch.minimum(v - hairline, torch.maximum(temple - u.abs(), v - sideburn))
        self.front = torch.maximum(cap, line) + has_hair

        # Beside it: two curtains of long hair, each kept, cut short, or tucked behind the ear.
        length = torch.where(dice.chance(0.35), dice.uniform(0.35, 0.75), dice.uniform(0.8, 1.6))
        spread, curl = dice.uniform(0.10, 0.26), dice.waves(x * 0.0, y, 2, 3, 9) * 0.03
        self.behind = self._mass(length, spread, curl, frame.half_width)
        self.behind += torch.where(style == long, 0.0, _AWAY)
        drape = torch.full_like(self.front, _AWAY)
        for side in (-1, 1):
            # The near side of a turned head shows more cheek: the curtain hangs further out.
            inner = frame.half_width * dice.uniform(0.80, 1.02) + 0.10 * side * frame.yaw
            inner = inner - dice.uniform(0, 0.10) * smoothstep(0.3, 0.9, y) + curl
            outer = frame.half_width + spread * smoothstep(-0.75, 0.1, y)
            across = side * x
            curtain = torch.maximum(inner - across, across - outer)
            curtain = torch.maximum(curtain, torch.maximum(y - length, -0.45 - y))
            worn = (style == long) & dice.chance(0.78)
            drape = torch.minimum(drape, torch.where(worn, curtain, _AWAY))
        self.drape = drape

        # A bun or the bulk of curly hair, seen behind the head.
        bun_x, bun_y = dice.uniform(-0.25, 0.25), dice.uniform(-0.98, -0.82)
        bun = ellipse(x - bun_x, y - bun_y, dice.uniform(0.15, 0.24), dice.uniform(0.13, 0.2))
        bun = torch.where((style == short) & dice.chance(0.18), bun, _AWAY)
        bulk = head - thick * (0.6 + 0.4 * smoothstep(0.9, 0.2, y)) + wave
        bulk = torch.maximum(bulk, y - lowest - 0.3)
        bulk = torch.where(style == big, bulk, _AWAY)
        self.behind = torch.minimum(self.behind, torch.minimum(bun, bulk))

    def _mass(self, length: Tensor, spread: Tensor, curl: Tensor, half_width: Tensor) -> Tensor:
        """Long hair behind neck and shoulders: a tall rounded box under the crown."""
        x, y = self.frame.x, self.frame.y
        half = half_width + spread * smoothstep(-0.75, 0.1, y) + curl
        box = torch.maximum(x.abs() - half, y - length)
        return torch.maximum(box, -0.35 - y)

    def paint_behind(self, canvas: Canvas) -> None:
        dark = self.light * self.texture * 0.62
        canvas.paint(self.behind, self.colour, HAIR, light=dark)

    def paint_in_front(self, canvas: Canvas) -> None:
        over = torch.minimum(self.front, self.drape)
        # Hair throws a soft shadow on the skin under it.
        canvas.shade(0.30 * (-(over.clamp_min(0) / 0.07)).exp())
        canvas.paint(over, self.colour, HAIR, light=self.light * self.texture)


def _paint_body(dice: Dice, canvas: Canvas, frame: _Frame, skin: Tensor) -> None:
    """Neck and clothes: background in the mask, as in the usual eight-class maps."""
    x, y = frame.x, frame.y
    lean = -0.06 * frame.yaw
    width = dice.uniform(0.30, 0.42)
    neck = torch.maximum((x - lean).abs() - width - 0.12 * (y - 0.7).clamp_min(0), 0.5 - y)
    under_chin = 0.62 + 0.25 * smoothstep(0.75, 1.15, y)
    canvas.paint(neck, skin, BACKGROUND, light=under_chin)
    top, slope = dice.uniform(0.98, 1.14), dice.uniform(0.15, 0.5)
    neckline = dice.uniform(0, 0.35) * smoothstep(0.5, 0.0, x.abs())
    cloth = top + slope * x * x - neckline
    cloth = cloth + 2 * neckline - y
    folds = 0.85 + 0.15 * dice.waves(x, y, 3, 3, 12)
    canvas.paint(cloth, _any_colour(dice), BACKGROUND, light=folds)


def _ear_traits(dice: Dice, frame: _Frame) -> list[Tensor]:
    width, height = dice.uniform(0.09, 0.135), dice.uniform(0.17, 0.23)
    out, level, tilt = dice.uniform(0.02, 0.09), dice.bell(0.08, 0.05), dice.uniform(0.05, 0.25)
    return [width, height, out, level - 0.35 * frame.pitch, tilt]


def _paint_ears(
    canvas: Canvas, frame: _Frame, traits: list[Tensor], skin: Tensor, light: _Light, behind: bool
) -> None:
    """Both ears behind the head, then once more in front the one that a turned head shows."""
    width, height, out, level, tilt = traits
    for side in (-1, 1):
        towards = -side * frame.yaw.sin()  # positive: this ear comes to the front
        centre = (frame.half_width - 0.02) * frame.yaw.cos() + out - 0.03 * towards
        x = side * frame.x - centre
        y = frame.y - level
        x = x - tilt * y
        broad = width * (1 + 0.5 * towards.clamp(-0.5, 1))
        ear = ellipse(x, y, broad, height)
        if not behind:
            ear = torch.where(towards > 0.14, ear, _AWAY)
        rim = 0.86 + 0.10 * side * light.x
        canvas.paint(ear, skin * skin.new_tensor([1.03, 0.94, 0.92]).view(1, 3, 1, 1), EAR, rim)
        bowl = ellipse(x + 0.15 * broad, y + 0.02, broad * 0.5, height * 0.55)
        bowl = torch.maximum(bowl, ear)
        canvas.paint(bowl, skin * 0.72, None, opacity=0.75, softness=2.5)


def _paint_head(
    dice: Dice, canvas: Canvas, frame: _Frame, head: Tensor, skin: Tensor, light: _Light
) -> None:
    u, v = frame.u, frame.v
    blotches = 1 + 0.04 * dice.waves(u, v, 3, 3, 12)
    canvas.paint(head, skin * blotches.unsqueeze(1), SKIN, light=light.head)

    # Cheeks, eye sockets, stubble: the mask stays skin.
    for side in (-1, 1):
        cheek = (-(u - side * 0.30).square() / 0.03 - (v - 0.28).square() / 0.025).exp()
        flush = skin * skin.new_tensor([1.04, 0.84, 0.82]).view(1, 3, 1, 1)
        canvas.paint(head, flush, None, opacity=cheek * dice.uniform(0, 0.6))
        socket = (-(u - side * 0.25).square() / 0.022 - (v + 0.05).square() / 0.012).exp()
        canvas.shade(socket * dice.uniform(0.05, 0.28))
    jaw_line = smoothstep(0.22, 0.5, v + 0.25 * u.abs()) * smoothstep(-0.02, -0.12, head)
    moustache = smoothstep(0.30, 0.36, v)
    stubble = torch.where(dice.chance(0.22), dice.uniform(0.15, 0.7), 0.0)
    grain = 0.8 + 0.2 * dice.waves(u, v, 3, 25, 60)
    beard = skin * 0.25 + 0.04
    canvas.paint(head, beard, None, opacity=jaw_line * moustache * grain * stubble)
    crease = (-((u.abs() - 0.16 - 0.25 * (v - 0.2)) / 0.02).square()).exp()
    crease = crease * smoothstep(0.16, 0.24, v) * smoothstep(0.50, 0.36, v)
    canvas.shade(crease * dice.uniform(0, 0.25))


def _paint_mouth(dice: Dice, canvas: Canvas, frame: _Frame, skin: Tensor) -> None:
    level, width = dice.bell(0.51, 0.04), dice.uniform(0.21, 0.31)
    smile, tilt = dice.uniform(-0.03, 0.10), dice.bell(0, 0.06)
    u = frame.u - dice.bell(0, 0.02)
    v = frame.v - level + smile * (u / width).square() + tilt * u
    gap = torch.where(dice.chance(0.42), dice.uniform(0.03, 0.15), 0.0)
    upper, lower = dice.uniform(0.055, 0.085), dice.uniform(0.065, 0.105)
    bow = 0.25 * upper * (-(u / 0.04).square()).exp()

    lips = lens(u, v - bow, width, upper + gap * 0.4, lower + gap * 0.6)
    inside = lens(u, v, width * 0.86, gap * 0.4, gap * 0.6)
    inside = torch.where(gap > 0, inside, _AWAY)
    redness = dice.uniform(0, 1).unsqueeze(1)
    natural = skin * skin.new_tensor([0.92, 0.66, 0.64]).view(1, 3, 1, 1)
    painted = skin * skin.new_tensor([0.85, 0.36, 0.38]).view(1, 3, 1, 1)
    lip_colour = torch.lerp(natural, painted, redness * redness)
    canvas.paint(lips, lip_colour, MOUTH, softness=1.3)
    upper_lip = torch.maximum(lips, v)
    canvas.paint(upper_lip, lip_colour * 0.84, None, opacity=0.8, softness=2.0)

    seam = (-(v / 0.016).square()).exp() * canvas.coverage(lips)
    canvas.shade(torch.where(gap > 0, 0.0, 0.45) * seam)
    cavity = pick([[0.22, 0.07, 0.07]], torch.zeros_like(gap, dtype=torch.int64))
    canvas.paint(inside, cavity, None)
    teeth = torch.maximum(inside + 0.012, v - gap * dice.uniform(-0.1, 0.5))
    teeth = torch.where(dice.chance(0.75), teeth, _AWAY)
    canvas.paint(teeth, cavity * 0 + dice.uniform(0.75, 0.95).unsqueeze(1))
    below = (-(u / width).square() * 2 - ((v - lower - gap * 0.6 - 0.03) / 0.03).square()).exp()
    canvas.shade(below * dice.uniform(0.05, 0.28) * canvas.coverage(-lips))


def _paint_nose(dice: Dice, canvas: Canvas, frame: _Frame, skin: Tensor, light: _Light) -> None:
    """Bridge, tip and wings; the tip stands out of the face and slides with yaw and pitch."""
    length, width = dice.bell(0.29, 0.04), dice.uniform(0.10, 0.155)
    height = dice.uniform(0.08, 0.16)
    along = ((frame.v + 0.10) / (length + 0.10)).clamp(0, 1)
    u = frame.u - height * frame.yaw.sin() * along
    v = frame.v - height * frame.pitch.sin() * along

    bridge = (u.abs() - (0.060 + (width - 0.060) * along.square())) * 0.9
    bridge = torch.maximum(bridge, torch.maximum(-0.12 - v, v - length))
    tip = ellipse(u, v - length, width * 0.8, 0.085)
    wings = ellipse(u.abs() - width * 0.72, v - length - 0.015, width * 0.52, 0.068)
    nose = blend_union(blend_union(bridge, tip, 0.06), wings, 0.05)

    # Relief: the side away from the lamp is dark, the ridge catches it, the underside is dark.
    inside = canvas.coverage(nose, softness=2.0)
    slope = (u / (0.05 + width * 0.8 * along)).clamp(-1, 1)
    relief = slope * light.x * 0.55 * (0.4 + 0.6 * along)
    ridge = (-(u / 0.035).square()).exp() * smoothstep(-0.12, 0.1, v) * 0.14
    under = ((v - length - 0.02) / 0.06).clamp(0, 1) * 0.30
    canvas.light = canvas.light * (1 + inside * (relief + ridge - under))
    canvas.mask = torch.where(nose < 0, NOSE, canvas.mask)

    # The crease round the wings and the shadow the nose throws.
    crease = (-(nose / 0.022).square()).exp() * smoothstep(0.45, 1.0, along)
    canvas.shade(crease * dice.uniform(0.10, 0.32))
    thrown = ellipse(u + light.x * 0.10, v - length - 0.07, width * 1.1, 0.07)
    soft = canvas.coverage(thrown, softness=4.0) * (1 - inside)
    canvas.shade(soft * dice.uniform(0.05, 0.35))
    nostril_v = v - length - 0.045
    for side in (-1, 1):
        nostril = ellipse(u - side * width * 0.45, nostril_v, width * 0.26, 0.026)
        canvas.paint(nostril, skin * 0.22, None, opacity=0.85, softness=1.5)


def _paint_eyes_and_brows(
    dice: Dice, canvas: Canvas, frame: _Frame, skin: Tensor, hair: Tensor
) -> None:
    apart, level = dice.bell(0.275, 0.03), dice.bell(-0.03, 0.03)
    width = dice.uniform(0.13, 0.17)
    closed = dice.chance(0.06)
    upper = torch.where(closed, 0.024, dice.uniform(0.060, 0.105))
    lower = torch.where(closed, 0.030, dice.uniform(0.035, 0.062))
    slant = dice.bell(0, 0.22)
    gaze_u, gaze_v = dice.bell(0, 0.05), dice.bell(0, 0.02)
    sclera = torch.lerp(skin, torch.ones_like(skin), 0.62) * dice.uniform(0.78, 1.0).unsqueeze(1)
    sclera = torch.where(closed.unsqueeze(1), skin * 0.45, sclera)
    iris_colour = pick(_IRIS, mixture([4, 4, 1.5, 2], dice)) * _tint(dice, 0.15)
    iris_size = dice.uniform(0.068, 0.085)
    lash, lid = dice.uniform(0.35, 0.85), dice.uniform(0.05, 0.35)
    makeup = torch.where(dice.chance(0.2), dice.uniform(0.1, 0.5), 0.0)

    brow_gap = dice.uniform(0.19, 0.26)
    brow_width, brow_thick = dice.uniform(0.15, 0.20), dice.uniform(0.036, 0.060)
    brow_arch, brow_slope = dice.uniform(0.3, 2.2), dice.bell(0, 0.28)
    brow_colour = torch.lerp(hair, skin * 0.35, dice.uniform(0.2, 0.8).unsqueeze(1))
    brow_colour = torch.minimum(brow_colour, skin * dice.uniform(0.45, 0.80).unsqueeze(1))

    for side in (-1, 1):
        u = side * frame.u - apart - dice.bell(0, 0.008)
        v = frame.v - level + slant * u
        eye = lens(u, v, width, upper, lower)
        arch = 1 - (u / width).square()
        lid_line = (v + upper * arch) / 0.02
        canvas.shade((-((v + upper * arch + 0.04) / 0.018).square()).exp()
                     * smoothstep(width.max() * 1.1, 0.06, u.abs()) * lid)  # fmt: skip
        canvas.paint(eye - 0.05, skin * 0.45, None, opacity=makeup, softness=3.0)
        canvas.paint(eye, sclera, EYE)
        iris_x, iris_y = u - side * gaze_u, v - gaze_v + 0.012
        iris = ellipse(iris_x, iris_y, iris_size, iris_size)
        iris = torch.where(closed, _AWAY, torch.maximum(iris, eye))
        canvas.paint(iris, iris_colour, None)
        pupil = ellipse(iris_x, iris_y, iris_size * 0.45, iris_size * 0.45)
        pupil = torch.where(closed, _AWAY, torch.maximum(pupil, eye))
        canvas.paint(pupil, iris_colour * 0.12, None)
        glint = ellipse(iris_x + 0.022, iris_y + 0.025, 0.016, 0.016)
        glint = torch.where(closed, _AWAY, torch.maximum(glint, eye))
        canvas.paint(glint, torch.ones_like(skin), None, opacity=0.9)
        lashes = (-(lid_line.square())).exp() * (u.abs() < width * 1.02)
        canvas.paint(eye - 0.03, skin * 0.10, None, opacity=lashes * lash)

        t = side * frame.u - apart - 0.01
        middle = level - brow_gap + brow_arch * t * t - brow_slope * t + dice.bell(0, 0.015)
        along = (t / brow_width).square()
        brow = ((frame.v - middle).abs() - brow_thick * (1.08 - along).clamp_min(0).sqrt()) * 0.95
        brow = torch.maximum(brow, t.abs() - brow_width)
        canvas.paint(brow, brow_colour, BROW, opacity=dice.uniform(0.62, 1.0), softness=1.6)


def _photograph(dice: Dice, canvas: Canvas, light: _Light) -> Tensor:
    """Lamp colour, exposure, contrast, a little blur and noise; -> uint8."""
    picture = canvas.picture() * light.colour * dice.uniform(0.82, 1.12).unsqueeze(1)
    contrast = dice.uniform(0.85, 1.15).unsqueeze(1)
    picture = ((picture - 0.45) * contrast + 0.45).clamp(0, 1)
    height, width = picture.shape[-2:]
    soft = torch.nn.functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    soft = soft[..., :-2] + 2 * soft[..., 1:-1] + soft[..., 2:]
    soft = (soft[..., :-2, :] + 2 * soft[..., 1:-1, :] + soft[..., 2:, :]) / 16
    picture = torch.lerp(picture, soft, dice.uniform(0, 0.9).unsqueeze(1))
    noise = dice.grain(height, width) * (dice.uniform(0, 1).square() * 0.035).unsqueeze(1)
    return ((picture + noise).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


class RenderedFaces(Dataset[Any]):
    """`count` faces of the stream `seed`: item i is (uint8 [3, R, R], mask uint8 [R, R])."""

    def __init__(self, seed: int, count: int, resolution: int, first: int = 0) -> None:
        self.seed, self.count, self.resolution, self.first = seed, count, resolution, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """A batch drawn at once; the data loader calls this, several times faster than one by one."""
        images, masks = render_faces(self.seed, torch.tensor(indices) + self.first, self.resolution)
        return list(zip(images, masks, strict=True))


def require_face_labels(names: tuple[str, ...]) -> None:
    """Refuse a label set that the rendered masks do not speak."""
    if names != CLASS_NAMES:
        raise UserError(
            f"rendered faces are labelled {', '.join(CLASS_NAMES)}, but the label set has "
            f"{', '.join(names)}; use configs/labels/face8.yaml with them."
        )
