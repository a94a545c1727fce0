"""Options of the subcommand `draw`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError


@dataclass(frozen=True)
class DrawOptions:
    """Options of the subcommand `draw`.

    Args:
        out: folder for the strokes and the annotated samples that they make; work that lies there goes on.
        samples: folder of samples to draw on, as `sample` wrote it; none to draw `count` fresh ones.
        count: number of fresh samples to choose from.
        seed: seed of these samples; one never used for tests or pseudo-labels.
        truncation: psi of these samples; 1 for full variety, less for more ordinary faces.
        class_number: class of these samples, of a conditional generator, from 0; `all` for all. Short:
            --class.
        memory: GiB for the features of the samples; none for a quarter of the machine's. What does not fit
            is projected onto fewer channels.
        port: port of the page on this machine; 0 for any that is free.
        open: open the page in the browser. Short for not: --no-open.
    """

    out: Path
    samples: Path | None = None
    count: int = 200
    seed: int = 21
    truncation: float = 1.0
    class_number: int | Literal["all"] | None = None
    memory: float | None = None
    port: int = 0
    open: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"--count is {self.count}; it is a count, 1 at least.")
        if self.memory is not None and self.memory <= 0:
            raise UserError(f"--memory is {self.memory}; it is a number of GiB above 0.")
        if not 0 <= self.port < 65_536:
            raise UserError(f"--port is {self.port}; a port is a number from 0 to 65535.")
