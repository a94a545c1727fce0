"""The head itself: its outline, its skin with cheeks and stubble, its ears."""

import torch
from torch import Tensor

from datasets.portrait import EAR, SKIN
from datasets.portrait.painting import Canvas, RandomStream, blend_union, ellipse, smoothstep
from datasets.portrait.scene import AWAY, Frame, Light


def head_outline(rng: RandomStream, frame: Frame) -> Tensor:
    """Distances to the head's outline, [B, H, W]."""
    jaw_width, chin = rng.bell(0.47, 0.10), rng.bell(0.86, 0.05)
    turn = frame.yaw.sin()
    cranium = ellipse(frame.x, frame.y + 0.16, frame.half_width, 0.66)
    middle = chin - 0.5
    jaw_x = frame.x - 0.10 * turn
    jaw = ellipse(jaw_x, frame.y - middle + 0.10 * frame.pitch, jaw_width, 0.5)
    return blend_union(cranium, jaw, 0.30)


def paint_head(
    rng: RandomStream, canvas: Canvas, frame: Frame, head: Tensor, skin: Tensor, light: Light
) -> None:
    """Paint the skin with cheeks, eye sockets and stubble."""
    u, v = frame.u, frame.v
    blotches = 1 + 0.04 * rng.waves(u, v, 3, 3, 12)
    canvas.paint(head, skin * blotches.unsqueeze(1), SKIN, light=light.head)

    # Cheeks, eye sockets, stubble: the mask stays skin.
    for side in (-1, 1):
        cheek = (-(u - side * 0.30).square() / 0.03 - (v - 0.28).square() / 0.025).exp()
        flush = skin * skin.new_tensor([1.04, 0.84, 0.82]).view(1, 3, 1, 1)
        canvas.paint(head, flush, None, opacity=cheek * rng.uniform(0, 0.6))
        socket = (-(u - side * 0.25).square() / 0.022 - (v + 0.05).square() / 0.012).exp()
        canvas.shade(socket * rng.uniform(0.05, 0.28))
    jaw_line = smoothstep(0.22, 0.5, v + 0.25 * u.abs()) * smoothstep(-0.02, -0.12, head)
    moustache = smoothstep(0.30, 0.36, v)
    stubble = torch.where(rng.chance(0.22), rng.uniform(0.15, 0.7), 0.0)
    grain = 0.8 + 0.2 * rng.waves(u, v, 3, 25, 60)
    beard = skin * 0.25 + 0.04
    canvas.paint(head, beard, None, opacity=jaw_line * moustache * grain * stubble)
    crease = (-((u.abs() - 0.16 - 0.25 * (v - 0.2)) / 0.02).square()).exp()
    crease = crease * smoothstep(0.16, 0.24, v) * smoothstep(0.50, 0.36, v)
    canvas.shade(crease * rng.uniform(0, 0.25))


def ear_traits(rng: RandomStream, frame: Frame) -> list[Tensor]:
    """Width, height, distance from the head, level and tilt of the ears."""
    width, height = rng.uniform(0.09, 0.135), rng.uniform(0.17, 0.23)
    out, level, tilt = rng.uniform(0.02, 0.09), rng.bell(0.08, 0.05), rng.uniform(0.05, 0.25)
    return [width, height, out, level - 0.35 * frame.pitch, tilt]


def paint_ears(
    canvas: Canvas, frame: Frame, traits: list[Tensor], skin: Tensor, light: Light, behind: bool
) -> None:
    """Paint both ears behind the head; in front, once more the one that a turned head shows."""
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
            ear = torch.where(towards > 0.14, ear, AWAY)
        rim = 0.86 + 0.10 * side * light.x
        canvas.paint(ear, skin * skin.new_tensor([1.03, 0.94, 0.92]).view(1, 3, 1, 1), EAR, rim)
        bowl = ellipse(x + 0.15 * broad, y + 0.02, broad * 0.5, height * 0.55)
        bowl = torch.maximum(bowl, ear)
        canvas.paint(bowl, skin * 0.72, None, opacity=0.75, softness=2.5)
