"""The table of tools: commands that are no stages. Each has options of its own beside the config."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.errors import UserError
from datasets.labels import LabelSet
from pipeline.config import Config
from pipeline.inputs import need, resolve
from student.network import load_maps, load_probabilities
from teacher.annotate import AnnotateOptions, annotate
from teacher.consensus import open_disagreement
from teacher.generators.base import FeatureGenerator
from teacher.generators.choosing import SampleScore
from teacher.generators.convert import ConvertOptions, convert
from teacher.generators.lineage import require_kin
from teacher.generators.sample import SampleOptions, sample
from teacher.page.draw import draw_strokes
from teacher.page.options import DrawOptions


@dataclass(frozen=True)
class Tool:
    """A command that is no stage.

    Attributes:
        help: what it does, in a sentence.
        options: what of the config its `--help` shows, by the beginning of the names.
        example: arguments that make sense behind its name.
        own: its own options.
        run: what it does, from the config and these options.
    """

    help: str
    options: tuple[str, ...]
    example: str
    own: type[Any]
    run: Callable[[Config, Any], None]


def _sample(config: Config, options: SampleOptions) -> None:
    by_score = options.choose_by == "disagreement"
    sample(_generator(config), options, _score(config) if by_score else None)


def _generator(config: Config) -> Any:
    return need(resolve(config), "generator").path


def _score(config: Config) -> Callable[[FeatureGenerator], SampleScore]:
    """Opens what says how much the two models differ that the config goes on from."""
    sources = config.sources
    if not sources.teacher or not sources.student:
        raise UserError(
            "--choose_by disagreement compares two models: name finished folders by --sources.teacher and "
            "--sources.student."
        )
    require_kin(sources.teacher, _generator(config))
    labels = LabelSet.load(sources.labels)
    return partial(
        open_disagreement, sources.teacher, sources.student, labels, open_student=load_probabilities
    )


TOOLS = {
    "convert": Tool(
        "Read a generator checkpoint of another system and write it as a generator folder.",
        (), "--checkpoint data/ffhq256/generator.pkl --out data/ffhq256/generator", ConvertOptions,
        lambda config, options: convert(options),
    ),
    "sample": Tool(
        "Draw samples of a generator, to look at or to annotate.",
        ("sources.generator", "sources.labels", "sources.teacher", "sources.student"),
        "--generator assets/faces64/generator --count 300 --choose 3 --out data/samples",
        SampleOptions, _sample,
    ),
    "draw": Tool(
        "Open a page where you draw strokes on samples while a small teacher answers.",
        ("sources.generator", "sources.labels"), "--config configs/demo.yaml --out data/strokes",
        DrawOptions,
        lambda config, options: draw_strokes(_generator(config), config.sources.labels, options),
    ),
    "annotate": Tool(
        "Bring samples, or photographs, and masks that people drew of them together.",
        ("sources.generator", "sources.labels"),
        "--samples data/samples --masks data/samples/masks --out data/annotated", AnnotateOptions,
        lambda config, options: annotate(_generator(config), config.sources.labels, options, load_maps),
    ),
}  # fmt: skip
