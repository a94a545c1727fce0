"""The subcommand `draw`: a page where a person draws strokes while an ensemble answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm import tqdm

from common.errors import UserError
from common.stage_folder import artifact_hash
from datasets.annotations import read_samples, require_drawn_by
from datasets.labels import LabelSet
from teacher.annotate import print_report
from teacher.generators.base import FeatureGenerator, Latents, class_count, take, to_device
from teacher.generators.registry import load_generator
from teacher.generators.sample import check_class
from teacher.generators.sampling import LatentSource, latents_of_seed
from teacher.page.candidates import Candidates
from teacher.page.journal import FILE, Journal
from teacher.page.options import DrawOptions
from teacher.page.output import FOLDER, AnnotatedFolder
from teacher.page.server import serve
from teacher.page.session import Session

_GIB = 2**30


def draw_strokes(path: Path, label_file: Path, options: DrawOptions) -> None:
    """Serve the page until it is stopped; writes the annotated samples to `annotated` in `options.out`.

    Args:
        path: the generator.
        label_file: the label set.

    Raises:
        UserError: `out` holds other things, is in use, or an input is wrong.
    """
    labels, source_hash = LabelSet.load(label_file), artifact_hash(path)
    if (options.out / FOLDER).exists() and not (options.out / FILE).exists():
        raise UserError(
            f"{options.out / FOLDER} exists and comes from no strokes; choose another --out."
        )
    generator = load_generator(path, PartialState().device)
    source, count, origin = _what_to_draw_on(generator, source_hash, options)
    head = {"generator": source_hash, "classes": list(labels.names), "samples": origin}
    side, memory = generator.resolution, options.memory and int(options.memory * _GIB)
    with Journal(options.out, head, count, side, len(labels)) as journal:
        candidates = Candidates(generator, source, count, memory or None)
        output = AnnotatedFolder(options.out / FOLDER, labels, candidates, source_hash, origin)
        session = Session(candidates, journal, output, labels)
        print(f"{candidates.packing.told} Strokes are kept in {options.out / FILE}.")
        # Later than the page's address is printed, which would else stand in the bar's line.
        with tqdm(total=count, desc="samples", unit="sample", delay=0.2) as bar:
            session.subscribe(lambda event: _advance(bar, event))
            serve(session, options.port, options.open, options.out)
        report = session.end()
    if session.error:
        raise session.error
    if report is None:
        print("nothing was drawn")
        return
    print_report(report)
    folder = options.out / FOLDER
    print(f"{report['samples']} annotated samples in {folder}: name it by --sources.annotations")


def _what_to_draw_on(
    generator: FeatureGenerator, source_hash: str, options: DrawOptions
) -> tuple[LatentSource, int, dict[str, Any]]:
    """Where the samples' latents come from, how many there are, and how that was said."""
    if options.samples is None:
        number = options.class_number
        check_class(number, class_count(generator))
        count, seed, psi = options.count, options.seed, options.truncation
        origin: dict[str, Any] = {"seed": seed, "truncation": psi, "count": count}
        origin |= {} if number is None else {"class": number}
        of_all = None if number == "all" else number
        return latents_of_seed(generator, seed, psi, of_all), count, origin
    samples, index = read_samples(options.samples)
    require_drawn_by(source_hash, options.samples, index)

    def of_folder(numbers: Sequence[int]) -> Latents:
        return to_device(take(samples.latents, numbers), generator.device)

    return of_folder, len(samples), {"drawn": index["origin"], "count": len(samples)}


def _advance(bar: "tqdm[Any]", event: dict[str, Any]) -> None:
    if event["event"] == "ready":
        bar.update(event["samples"] - bar.n)
