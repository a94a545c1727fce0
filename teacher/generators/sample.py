"""The subcommand `sample`: draw samples to look at or to annotate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.stage_folder import artifact_hash
from datasets.annotations import write_samples
from datasets.sheets import save_sheet, tile
from teacher.generators.choosing import choose_samples
from teacher.generators.registry import load_generator
from teacher.generators.sampling import (
    draw,
    latents_of_seed,
    latents_of_z,
    read_latents,
    z_of_seeds,
)


@dataclass(frozen=True)
class SampleOptions:
    """Options of the subcommand `sample`: one of `count`, `seeds` and `latents`.

    Args:
        out: folder for the samples and a contact sheet of them.
        count: draw this many, each with noise of its own.
        seed: of those.
        seeds: draw what NVIDIA's tools draw for these seeds, as in 0-3,8; constant noise.
        latents: draw these z, a .npy file of float32 [N, latent size]; constant noise.
        choose: keep only this many, those most worth annotating.
        truncation: psi; 1 for full variety.
    """

    out: Path
    count: int | None = None
    seed: int = 0
    seeds: str | None = None
    latents: Path | None = None
    choose: int | None = None
    truncation: float = 1.0


def sample(path: Path, options: SampleOptions) -> None:
    """Draw samples of the generator `path` to look at or to annotate.

    Beside the pictures lies what makes their features again.
    """
    source = artifact_hash(path)
    if (options.out / "samples.json").exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    ways = {"count": options.count, "seeds": options.seeds, "latents": options.latents}
    if len([way for way in ways.values() if way is not None]) != 1:
        raise UserError("say which samples to draw by one of --count, --seeds, --latents.")
    generator = load_generator(path)

    origin: dict[str, Any] = {"truncation": options.truncation}
    if options.count is not None:
        latents = latents_of_seed(generator, options.seed, options.truncation)
        numbers = list(range(options.count))
        origin["seed"] = options.seed
    else:
        if options.seeds is not None:
            origin["seeds"] = seeds = read_numbers(options.seeds, "--seeds")
            z = z_of_seeds(generator, seeds)
        else:
            assert options.latents is not None
            z = read_latents(options.latents, generator.config.latent_size)
            origin["latents"] = artifact_hash(options.latents)
        latents = latents_of_z(generator, z, options.truncation)
        numbers = list(range(len(z)))
    if options.choose is not None:
        if not 0 < options.choose <= len(numbers):
            raise UserError(f"--choose {options.choose} must be between 1 and {len(numbers)}.")
        numbers = choose_samples(generator, latents, numbers, options.choose)
    samples = draw(generator, latents, numbers)
    origin["indices"] = numbers
    write_samples(options.out, samples, source, origin)
    save_sheet(tile(samples.images), options.out / "sheet.png")
    print(f"{len(samples)} samples in {options.out}; to annotate them, draw masks/0000.png, ...")


def read_numbers(text: str, option: str) -> list[int]:
    """0-3,8 -> [0, 1, 2, 3, 8]."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"{option} {text} is not a list of numbers such as 0-3,8.")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers:
        raise UserError(f"{option} {text} names no number.")
    return numbers
