"""What all faces of a rendered world have in common: their colours, light, surroundings and camera.

`STUDIO` is the world of the demo, on which the bundled generator was trained. `STREET` is one that nothing
bundled has seen: other skin and hair, hard coloured light, things behind the head, glasses, a poorer
camera. It stands for the photographs that a user brings, with exact masks.
"""

from dataclasses import dataclass

Colours = tuple[tuple[float, float, float], ...]
Range = tuple[float, float]


@dataclass(frozen=True)
class World:
    """The world's settings.

    Args:
        skin: skin colours, RGB from 0 to 1.
        skin_weights: how often each is drawn, relative to the others.
        hair: hair colours.
        hair_weights: how often each is drawn.
        dyed: share of heads with hair of any colour.
        zoom: middle and reach of the head's size in the image.
        roll: furthest turn of the head in the image plane, in radians.
        lamp: how much of the light is the lamp's, the rest being the sky's.
        lamp_tint: how far the light's channels are from white, as a share.
        exposure: factors of brightness.
        contrast: factors of contrast.
        grain: strongest noise, as a standard deviation, at full brightness 1.
        saturation: factors of the distance from grey.
        clutter: things behind the head.
        glasses: share of faces with glasses. They have no class: the mask has what is behind them.
    """

    skin: Colours = (
        (0.96, 0.80, 0.70), (0.93, 0.74, 0.62), (0.87, 0.66, 0.52), (0.78, 0.56, 0.41),
        (0.65, 0.44, 0.31), (0.50, 0.33, 0.23), (0.38, 0.25, 0.18),
    )  # fmt: skip
    skin_weights: tuple[float, ...] = (3, 4, 4, 3, 2, 2, 1.5)
    hair: Colours = (
        (0.07, 0.06, 0.06), (0.17, 0.11, 0.08), (0.32, 0.20, 0.12), (0.48, 0.27, 0.14),
        (0.66, 0.48, 0.28), (0.82, 0.68, 0.44), (0.62, 0.60, 0.58), (0.85, 0.84, 0.82),
    )  # fmt: skip
    hair_weights: tuple[float, ...] = (4, 4, 3, 1.5, 2, 1.5, 0.8, 0.6)
    dyed: float = 0.04
    zoom: Range = (1.04, 0.13)
    roll: float = 0.24
    lamp: Range = (0.35, 0.85)
    lamp_tint: float = 0.10
    exposure: Range = (0.82, 1.12)
    contrast: Range = (0.85, 1.15)
    grain: float = 0.035
    saturation: Range = (1.0, 1.0)
    clutter: int = 0
    glasses: float = 0.0


STUDIO = World()

STREET = World(
    skin=(
        (0.98, 0.76, 0.72), (0.90, 0.72, 0.52), (0.74, 0.58, 0.46), (0.60, 0.38, 0.30),
        (0.44, 0.30, 0.26), (0.28, 0.18, 0.14),
    ),
    skin_weights=(2, 3, 3, 3, 3, 3),
    hair=(
        (0.03, 0.03, 0.04), (0.12, 0.10, 0.11), (0.40, 0.16, 0.08), (0.55, 0.42, 0.32),
        (0.90, 0.80, 0.60), (0.45, 0.45, 0.47),
    ),
    hair_weights=(4, 3, 2, 2, 1.5, 2),
    dyed=0.12,
    zoom=(0.96, 0.18),
    roll=0.32,
    lamp=(0.45, 0.9),
    lamp_tint=0.14,
    exposure=(0.75, 1.15),
    contrast=(0.8, 1.25),
    grain=0.035,
    saturation=(0.55, 1.15),
    clutter=9,
    glasses=0.3,
)  # fmt: skip
WORLDS = {"studio": STUDIO, "street": STREET}
