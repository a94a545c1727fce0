"""The parts of a face: mouth, nose, eyes and brows, all on the turned surface of the head."""

import torch
from torch import Tensor

from datasets.portrait import BROW, EYE, MOUTH, NOSE
from datasets.portrait.painting import (
    Canvas,
    RandomStream,
    blend_union,
    ellipse,
    lens,
    mixture,
    pick,
    smoothstep,
)
from datasets.portrait.scene import AWAY, Frame, Light, any_colour, tint

_IRIS = [[0.13, 0.08, 0.05], [0.33, 0.20, 0.10], [0.35, 0.40, 0.22], [0.28, 0.42, 0.58]]


def paint_mouth(rng: RandomStream, canvas: Canvas, frame: Frame, skin: Tensor) -> None:
    """Paint lips, the open mouth and teeth, and the shadow below."""
    level, width = rng.bell(0.51, 0.04), rng.uniform(0.21, 0.31)
    smile, tilt = rng.uniform(-0.03, 0.10), rng.bell(0, 0.06)
    u = frame.u - rng.bell(0, 0.02)
    v = frame.v - level + smile * (u / width).square() + tilt * u
    gap = torch.where(rng.chance(0.42), rng.uniform(0.03, 0.15), 0.0)
    upper, lower = rng.uniform(0.055, 0.085), rng.uniform(0.065, 0.105)
    bow = 0.25 * upper * (-(u / 0.04).square()).exp()

    lips = lens(u, v - bow, width, upper + gap * 0.4, lower + gap * 0.6)
    inside = lens(u, v, width * 0.86, gap * 0.4, gap * 0.6)
    inside = torch.where(gap > 0, inside, AWAY)
    redness = rng.uniform(0, 1).unsqueeze(1)
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
    teeth = torch.maximum(inside + 0.012, v - gap * rng.uniform(-0.1, 0.5))
    teeth = torch.where(rng.chance(0.75), teeth, AWAY)
    canvas.paint(teeth, cavity * 0 + rng.uniform(0.75, 0.95).unsqueeze(1))
    below = (-(u / width).square() * 2 - ((v - lower - gap * 0.6 - 0.03) / 0.03).square()).exp()
    canvas.shade(below * rng.uniform(0.05, 0.28) * canvas.coverage(-lips))


def paint_nose(rng: RandomStream, canvas: Canvas, frame: Frame, skin: Tensor, light: Light) -> None:
    """Paint bridge, tip and wings; the tip stands out of the face and moves with yaw and pitch."""
    length, width = rng.bell(0.29, 0.04), rng.uniform(0.10, 0.155)
    height = rng.uniform(0.08, 0.16)
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

    # The crease round the wings and the shadow of the nose.
    crease = (-(nose / 0.022).square()).exp() * smoothstep(0.45, 1.0, along)
    canvas.shade(crease * rng.uniform(0.10, 0.32))
    thrown = ellipse(u + light.x * 0.10, v - length - 0.07, width * 1.1, 0.07)
    soft = canvas.coverage(thrown, softness=4.0) * (1 - inside)
    canvas.shade(soft * rng.uniform(0.05, 0.35))
    nostril_v = v - length - 0.045
    for side in (-1, 1):
        nostril = ellipse(u - side * width * 0.45, nostril_v, width * 0.26, 0.026)
        canvas.paint(nostril, skin * 0.22, None, opacity=0.85, softness=1.5)


def paint_eyes_and_brows(
    rng: RandomStream, canvas: Canvas, frame: Frame, skin: Tensor, hair: Tensor
) -> None:
    """Paint eyes, lids and lashes, and the brows above them."""
    apart, level = rng.bell(0.275, 0.03), rng.bell(-0.03, 0.03)
    width = rng.uniform(0.13, 0.17)
    closed = rng.chance(0.06)
    upper = torch.where(closed, 0.024, rng.uniform(0.060, 0.105))
    lower = torch.where(closed, 0.030, rng.uniform(0.035, 0.062))
    slant = rng.bell(0, 0.22)
    gaze_u, gaze_v = rng.bell(0, 0.05), rng.bell(0, 0.02)
    sclera = torch.lerp(skin, torch.ones_like(skin), 0.62) * rng.uniform(0.78, 1.0).unsqueeze(1)
    sclera = torch.where(closed.unsqueeze(1), skin * 0.45, sclera)
    iris_colour = pick(_IRIS, mixture([4, 4, 1.5, 2], rng)) * tint(rng, 0.15)
    iris_size = rng.uniform(0.068, 0.085)
    lash, lid = rng.uniform(0.35, 0.85), rng.uniform(0.05, 0.35)
    makeup = torch.where(rng.chance(0.2), rng.uniform(0.1, 0.5), 0.0)

    brow_gap = rng.uniform(0.19, 0.26)
    brow_width, brow_thick = rng.uniform(0.15, 0.20), rng.uniform(0.036, 0.060)
    brow_arch, brow_slope = rng.uniform(0.3, 2.2), rng.bell(0, 0.28)
    brow_colour = torch.lerp(hair, skin * 0.35, rng.uniform(0.2, 0.8).unsqueeze(1))
    brow_colour = torch.minimum(brow_colour, skin * rng.uniform(0.45, 0.80).unsqueeze(1))

    for side in (-1, 1):
        u = side * frame.u - apart - rng.bell(0, 0.008)
        v = frame.v - level + slant * u
        eye = lens(u, v, width, upper, lower)
        arch = 1 - (u / width).square()
        lid_line = (v + upper * arch) / 0.02
        canvas.shade((-((v + upper * arch + 0.04) / 0.018).square()).exp()
                     * smoothstep(width * 1.1, 0.06, u.abs()) * lid)  # fmt: skip
        canvas.paint(eye - 0.05, skin * 0.45, None, opacity=makeup, softness=3.0)
        canvas.paint(eye, sclera, EYE)
        iris_x, iris_y = u - side * gaze_u, v - gaze_v + 0.012
        iris = ellipse(iris_x, iris_y, iris_size, iris_size)
        iris = torch.where(closed, AWAY, torch.maximum(iris, eye))
        canvas.paint(iris, iris_colour, None)
        pupil = ellipse(iris_x, iris_y, iris_size * 0.45, iris_size * 0.45)
        pupil = torch.where(closed, AWAY, torch.maximum(pupil, eye))
        canvas.paint(pupil, iris_colour * 0.12, None)
        glint = ellipse(iris_x + 0.022, iris_y + 0.025, 0.016, 0.016)
        glint = torch.where(closed, AWAY, torch.maximum(glint, eye))
        canvas.paint(glint, torch.ones_like(skin), None, opacity=0.9)
        lashes = (-(lid_line.square())).exp() * (u.abs() < width * 1.02)
        canvas.paint(eye - 0.03, skin * 0.10, None, opacity=lashes * lash)

        t = side * frame.u - apart - 0.01
        middle = level - brow_gap + brow_arch * t * t - brow_slope * t + rng.bell(0, 0.015)
        along = (t / brow_width).square()
        brow = ((frame.v - middle).abs() - brow_thick * (1.08 - along).clamp_min(0).sqrt()) * 0.95
        brow = torch.maximum(brow, t.abs() - brow_width)
        canvas.paint(brow, brow_colour, BROW, opacity=rng.uniform(0.62, 1.0), softness=1.6)


def paint_glasses(rng: RandomStream, canvas: Canvas, frame: Frame, share: float) -> None:
    """Paint a pair of glasses on a share of the faces; the mask keeps what is behind them."""
    worn = rng.chance(share)
    apart, level = rng.uniform(0.26, 0.30), rng.bell(-0.01, 0.02)
    width, height = rng.uniform(0.18, 0.23), rng.uniform(0.12, 0.19)
    thick, boxy = rng.uniform(0.012, 0.035), rng.chance(0.5)
    colour = any_colour(rng) * rng.uniform(0.1, 0.8).unsqueeze(1)
    glint = rng.uniform(0, 0.3)
    for side in (-1, 1):
        u, v = side * frame.u - apart, frame.v - level
        box = torch.maximum(u.abs() - width, v.abs() - height)
        pane = torch.where(boxy, box, ellipse(u, v, width, height))
        pane = torch.where(worn, pane, AWAY)
        reflection = smoothstep(0.0, 0.05, u + v) * smoothstep(0.15, 0.1, u + v)
        canvas.paint(pane, torch.ones_like(colour), None, opacity=reflection * glint)
        canvas.paint(pane.abs() - thick, colour, None)
    bridge = torch.maximum(frame.u.abs() - (apart - width), (frame.v - level + 0.03).abs() - thick)
    canvas.paint(torch.where(worn, bridge, AWAY), colour, None)
