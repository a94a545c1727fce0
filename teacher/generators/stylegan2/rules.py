"""Settings of a generator's training that follow from others, where an option says `auto`.

R1 weight, averaging and the pace of the augmentation are those of stylegan2-ada's automatic configuration
(Karras et al., 2020, appendix C). Its learning rates are for many millions of images.
"""

from dataclasses import dataclass, fields
from typing import Any

from teacher.generators.stylegan2.options import GeneratorStage

_WAIT = 48_000
_LONG = 1_000_000  # images; from here on the rates of long trainings hold


@dataclass(frozen=True)
class Rates:
    """Numbers that a training goes by.

    Attributes:
        wait_images: images in which the discriminator learns alone, first.
        learning_rate: of the generator.
        discriminator_learning_rate: of the discriminator.
        r1_gamma: weight of the R1 penalty.
        ema_images: half-life of the moving average, in images.
        ada_images: images in which the augmentation probability can go from zero to one.
    """

    wait_images: int
    learning_rate: float
    discriminator_learning_rate: float
    r1_gamma: float
    ema_images: float
    ada_images: float

    @staticmethod
    def of(config: GeneratorStage, started: bool = False, alone: bool = False) -> "Rates":
        """What the options say, and the rules where they say `auto`.

        Args:
            config: with the network that is trained.
            started: whether the training goes on from an earlier one's networks.
            alone: whether it goes on from a generator without its discriminator.
        """
        side, batch = config.network.resolution, config.batch_size
        fast, share = config.images < _LONG, 0.5 if started else 1.0
        slow = 2e-3 if side >= 1024 else 2.5e-3
        rules: dict[str, Any] = {
            "wait_images": _WAIT if alone else 0,
            "learning_rate": share * (4e-3 if fast else slow),
            "discriminator_learning_rate": share * (8e-3 if fast else slow),
            "r1_gamma": 0.0002 * side**2 / batch,
            "ema_images": batch * 10_000 / 32,
            "ada_images": 100_000 if started else 500_000,
        }
        asked = {name: getattr(config, name) for name in rules}
        return Rates(**{name: rules[name] if v == "auto" else v for name, v in asked.items()})

    def told(self, config: GeneratorStage) -> str:
        """Those that a rule has set, for the terminal; empty where none has."""
        by_rule = [f.name for f in fields(self) if getattr(config, f.name) == "auto"]
        return ", ".join(f"{name} {getattr(self, name):g}" for name in by_rule)
