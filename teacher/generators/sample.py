"""The subcommand `sample`: draw samples to look at or to annotate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.options import read_numbers
from common.stage_folder import artifact_hash
from datasets.annotations import INDEX, write_samples
from datasets.sheets import save_sheet, tile
from teacher.generators.base import FeatureGenerator, class_count
from teacher.generators.choosing import SampleScore, choose_samples, highest_scores
from teacher.generators.registry import load_generator
from teacher.generators.sampling import (
    LatentSource,
    draw,
    latents_of_seed,
    latents_of_z,
    read_z,
    z_of_seeds,
)

_DISPUTED = 10  # of the most disputed samples for each one that is chosen


@dataclass(frozen=True)
class SampleOptions:
    """Options of the subcommand `sample`: one of `count`, `seeds` and `latents`.

    Args:
        out: folder for the samples and a contact sheet of them.
        count: number of samples to draw, each with noise inputs of its own.
        seed: seed of these samples.
        seeds: numbers as in 0-3,8: draw what NVIDIA's tools draw for these seeds, with constant noise
            inputs.
        latents: file of z, .npy, float32 [N, length of z]: draw these, with constant noise inputs.
        choose: keep only this many samples, those most worth annotating.
        choose_by: choose samples that show all parts and stand for many others (parts), or such ones
            among those on which `sources.teacher` and `sources.student` differ most (disagreement).
        truncation: psi of the samples; 1 for full variety, less for more ordinary faces.
        class_number: class to draw, of a conditional generator, from 0; `all` for all of them, drawn from
            the seed or, with `seeds` and `latents`, in turns. Short: --class.
    """

    out: Path
    count: int | None = None
    seed: int = 0
    seeds: str | None = None
    latents: Path | None = None
    choose: int | None = None
    choose_by: Literal["parts", "disagreement"] = "parts"
    truncation: float = 1.0
    class_number: int | Literal["all"] | None = None


def sample(
    path: Path,
    options: SampleOptions,
    open_score: Callable[[FeatureGenerator], SampleScore] | None = None,
) -> None:
    """Draw samples of the generator `path` to look at or to annotate.

    Beside the images lies what makes their features again.

    Args:
        open_score: reads what says how much two models differ on a sample; needed to choose by that.

    Raises:
        UserError: `out` holds samples already, or the options do not say which samples to draw.
    """
    if (options.out / INDEX).exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    ways = (options.count, options.seeds, options.latents)
    if len([way for way in ways if way is not None]) != 1:
        raise UserError("say which samples to draw by one of --count, --seeds, --latents.")
    source, generator = artifact_hash(path), load_generator(path)
    latents, numbers, origin = _what_to_draw(generator, options)
    if options.choose is not None:
        if not 0 < options.choose <= len(numbers):
            raise UserError(f"--choose {options.choose} must be between 1 and {len(numbers)}.")
        if options.choose_by == "disagreement":
            assert open_score is not None
            score, most = open_score(generator), _DISPUTED * options.choose
            numbers = highest_scores(generator, latents, numbers, score, most)
        numbers = choose_samples(generator, latents, numbers, options.choose)
    samples = draw(generator, latents, numbers)
    write_samples(options.out, samples, source, origin | {"indices": numbers})
    save_sheet(tile(samples.images), options.out / "sheet.png")
    print(f"{len(samples)} samples in {options.out}; to annotate them, draw masks/0000.png, ...")


def _what_to_draw(
    generator: FeatureGenerator, options: SampleOptions
) -> tuple[LatentSource, list[int], dict[str, Any]]:
    """Where latents come from, the numbers to ask for, and how that was said, for the record."""
    origin: dict[str, Any] = {"truncation": options.truncation}
    check_class(options.class_number, class_count(generator))
    if options.class_number is not None:
        origin |= {"class": options.class_number}
    number = None if options.class_number == "all" else options.class_number
    if options.count is not None:
        latents = latents_of_seed(generator, options.seed, options.truncation, number)
        return latents, list(range(options.count)), origin | {"seed": options.seed}
    if options.seeds is not None:
        seeds = read_numbers(options.seeds, "--seeds")
        z, origin = z_of_seeds(generator, seeds), origin | {"seeds": seeds}
    else:
        assert options.latents is not None
        z = read_z(options.latents, generator.z_size)
        origin |= {"latents": artifact_hash(options.latents)}
    return latents_of_z(generator, z, options.truncation, number), list(range(len(z))), origin


def check_class(number: int | Literal["all"] | None, count: int) -> None:
    """Check the class that is asked for.

    Args:
        count: number of the generator's classes; 0 for one that has none.

    Raises:
        UserError: a class is missing, or is none of the generator's.
    """
    if not count and number is not None:
        raise UserError(
            f"--class {number}: this generator has no classes to choose from; leave it out."
        )
    if count and number is None:
        raise UserError(
            f"--class is missing: this generator draws {count} classes; add --class 0, another, or all."
        )
    if count and number != "all" and number is not None and not 0 <= number < count:
        raise UserError(
            f"--class {number}: this generator draws classes 0 to {count - 1}; choose one."
        )
