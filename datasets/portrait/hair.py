"""Hair: style, colour and texture; behind the head, over it, and strands beside it."""

import torch
from torch import Tensor

from datasets.portrait import HAIR
from datasets.portrait.painting import Canvas, RandomStream, ellipse, mixture, smoothstep
from datasets.portrait.scene import AWAY, Frame

_BALD, _SHORT, _FRINGE, _LONG, _BIG = range(5)  # styles
_SHARES = [0.06, 0.32, 0.18, 0.32, 0.12]


class Hair:
    """A face's hair. Everything is drawn at construction, in a fixed order, and painted later.

    Args:
        head: distances to the head's outline, [B, H, W].
        colour: [B, 3, 1, 1].
    """

    def __init__(self, rng: RandomStream, frame: Frame, head: Tensor, colour: Tensor) -> None:
        self.style = mixture(_SHARES, rng)
        self.frame, self.colour = frame, colour
        self._draw_texture(rng)
        thick, lowest, wave = self._draw_front(rng, head)
        self._draw_sides(rng)
        self._draw_back(rng, head, thick, lowest, wave)

    def _draw_texture(self, rng: RandomStream) -> None:
        """Streaks that follow the head, and a sheen across them."""
        u, v = self.frame.u, self.frame.v
        bend = rng.uniform(-1.5, 1.5)
        streaks = rng.waves(u + bend * v * v * 0.3, v * 0.15, 4, 18, 55)
        nx, ny, nz = self.frame.normal
        sheen = smoothstep(0.55, 0.95, nz) * smoothstep(-0.15, -0.6, ny)
        self.texture = 1 + streaks * rng.uniform(0.05, 0.22) + sheen * rng.uniform(0, 0.35)
        side_light = 1 + rng.bell(0, 0.5) * nx.clamp(-1, 1)
        self.light = (0.62 + 0.35 * nz) * side_light

    def _draw_front(self, rng: RandomStream, head: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A cap above the hairline, with temples that come down at the sides.

        Returns:
            How thick the hair is, how far down it goes, and the wave of its edge.
        """
        style, frame = self.style, self.frame
        x, y, u, v = frame.x, frame.y, frame.u, frame.v
        has_hair = torch.where(style == _BALD, AWAY, 0.0)
        wave = rng.waves(u, v * 0.0, 2, 6, 16) * 0.03
        centre = torch.where(style == _FRINGE, rng.uniform(-0.36, -0.20), rng.uniform(-0.62, -0.42))
        arch = torch.where(style == _FRINGE, rng.uniform(-0.1, 0.5), rng.uniform(0.2, 1.2))
        part_at, part = rng.uniform(-0.3, 0.3), rng.bell(0, 0.5)
        hairline = centre + arch * u * u + part * (u - part_at).abs() * 0.5 + wave
        temple = rng.uniform(0.50, 0.58) * (frame.half_width / 0.63)
        sideburn = torch.where(rng.chance(0.5), rng.uniform(-0.2, 0.0), rng.uniform(0.0, 0.28))
        thick = torch.where(style == _BIG, rng.uniform(0.20, 0.34), rng.uniform(0.05, 0.16))
        thick = torch.where(style == _SHORT, rng.uniform(0.02, 0.11), thick)
        lowest = torch.where(style == _BIG, rng.uniform(0.1, 0.5), rng.uniform(-0.2, 0.05))
        taper = ((lowest - y) / 0.5).clamp(0, 1)
        cap = head - thick * taper.sqrt() + rng.waves(x, y, 2, 8, 20) * 0.02 * taper
        cap = torch.maximum(cap, y - lowest - 0.25)
        line = torch.minimum(v - hairline, torch.maximum(temple - u.abs(), v - sideburn))
        self.front = torch.maximum(cap, line) + has_hair
        return thick, lowest, wave

    def _draw_sides(self, rng: RandomStream) -> None:
        """Long hair: a mass behind the neck, and two curtains, each there or tucked behind the ear."""
        style, frame = self.style, self.frame
        x, y = frame.x, frame.y
        length = torch.where(rng.chance(0.35), rng.uniform(0.35, 0.75), rng.uniform(0.8, 1.6))
        spread, curl = rng.uniform(0.10, 0.26), rng.waves(x * 0.0, y, 2, 3, 9) * 0.03
        self.behind = self._mass(length, spread, curl)
        self.behind += torch.where(style == _LONG, 0.0, AWAY)
        drape = torch.full_like(self.front, AWAY)
        for side in (-1, 1):
            # The near side of a turned head shows more cheek: the curtain hangs further out.
            inner = frame.half_width * rng.uniform(0.80, 1.02) + 0.10 * side * frame.yaw
            inner = inner - rng.uniform(0, 0.10) * smoothstep(0.3, 0.9, y) + curl
            outer = frame.half_width + spread * smoothstep(-0.75, 0.1, y)
            across = side * x
            curtain = torch.maximum(inner - across, across - outer)
            curtain = torch.maximum(curtain, torch.maximum(y - length, -0.45 - y))
            worn = (style == _LONG) & rng.chance(0.78)
            drape = torch.minimum(drape, torch.where(worn, curtain, AWAY))
        self.drape = drape

    def _mass(self, length: Tensor, spread: Tensor, curl: Tensor) -> Tensor:
        """Long hair behind neck and shoulders: a tall rounded box under the crown."""
        x, y = self.frame.x, self.frame.y
        half = self.frame.half_width + spread * smoothstep(-0.75, 0.1, y) + curl
        box = torch.maximum(x.abs() - half, y - length)
        return torch.maximum(box, -0.35 - y)

    def _draw_back(
        self, rng: RandomStream, head: Tensor, thick: Tensor, lowest: Tensor, wave: Tensor
    ) -> None:
        """A bun, or the bulk of curly hair, behind the head."""
        x, y = self.frame.x, self.frame.y
        bun_x, bun_y = rng.uniform(-0.25, 0.25), rng.uniform(-0.98, -0.82)
        bun = ellipse(x - bun_x, y - bun_y, rng.uniform(0.15, 0.24), rng.uniform(0.13, 0.2))
        bun = torch.where((self.style == _SHORT) & rng.chance(0.18), bun, AWAY)
        bulk = head - thick * (0.6 + 0.4 * smoothstep(0.9, 0.2, y)) + wave
        bulk = torch.maximum(bulk, y - lowest - 0.3)
        bulk = torch.where(self.style == _BIG, bulk, AWAY)
        self.behind = torch.minimum(self.behind, torch.minimum(bun, bulk))

    def paint_behind(self, canvas: Canvas) -> None:
        """Paint what lies behind the head."""
        dark = self.light * self.texture * 0.62
        canvas.paint(self.behind, self.colour, HAIR, light=dark)

    def paint_in_front(self, canvas: Canvas) -> None:
        """Paint what lies over the head and beside it, and its soft shadow on the skin."""
        over = torch.minimum(self.front, self.drape)
        canvas.shade(0.30 * (-(over.clamp_min(0) / 0.07)).exp())
        canvas.paint(over, self.colour, HAIR, light=self.light * self.texture)
