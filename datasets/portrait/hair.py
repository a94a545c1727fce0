"""Hair: style, colour and texture; behind the head, over it, and strands beside it."""

import torch
from torch import Tensor

from datasets.portrait import HAIR
from datasets.portrait.painting import Canvas, Dice, ellipse, mixture, smoothstep
from datasets.portrait.scene import AWAY, Frame


class Hair:
    """Style and colour of a face's hair: behind the head, over it, and strands beside it."""

    def __init__(self, dice: Dice, frame: Frame, head: Tensor, colour: Tensor) -> None:
        bald, short, fringe, long, big = range(5)
        style = mixture([0.06, 0.32, 0.18, 0.32, 0.12], dice)
        self.frame, self.colour = frame, colour
        x, y, u, v = frame.x, frame.y, frame.u, frame.v
        has_hair = torch.where(style == bald, AWAY, 0.0)

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
        self.behind += torch.where(style == long, 0.0, AWAY)
        drape = torch.full_like(self.front, AWAY)
        for side in (-1, 1):
            # The near side of a turned head shows more cheek: the curtain hangs further out.
            inner = frame.half_width * dice.uniform(0.80, 1.02) + 0.10 * side * frame.yaw
            inner = inner - dice.uniform(0, 0.10) * smoothstep(0.3, 0.9, y) + curl
            outer = frame.half_width + spread * smoothstep(-0.75, 0.1, y)
            across = side * x
            curtain = torch.maximum(inner - across, across - outer)
            curtain = torch.maximum(curtain, torch.maximum(y - length, -0.45 - y))
            worn = (style == long) & dice.chance(0.78)
            drape = torch.minimum(drape, torch.where(worn, curtain, AWAY))
        self.drape = drape

        # A bun or the bulk of curly hair, seen behind the head.
        bun_x, bun_y = dice.uniform(-0.25, 0.25), dice.uniform(-0.98, -0.82)
        bun = ellipse(x - bun_x, y - bun_y, dice.uniform(0.15, 0.24), dice.uniform(0.13, 0.2))
        bun = torch.where((style == short) & dice.chance(0.18), bun, AWAY)
        bulk = head - thick * (0.6 + 0.4 * smoothstep(0.9, 0.2, y)) + wave
        bulk = torch.maximum(bulk, y - lowest - 0.3)
        bulk = torch.where(style == big, bulk, AWAY)
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
