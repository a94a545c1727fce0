"""Stage `compare`: teacher, student and what they are held against, on the same pictures.

`generated`: annotated samples of the generator, where the teacher has its features for nothing.
`held_out`: rendered faces; and the test sets that people name: pictures that no generator made. There
the teacher needs an inversion, the very cost that the student does without. It is paid, timed and shown
for the first `compare.inversion_images` pictures of every set, in a table of their own: all rows of a table
are about the same pictures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic

from accelerate import PartialState
from torch import Tensor

from common.checkpoints import Checkpoints
from common.errors import UserError, require_counts
from common.files import hash_file, write_json
from common.stage_folder import Result, StageFolder, artifact_hash, plain
from datasets.annotations import read_samples
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.sheets import save_sheet
from datasets.test_sets import TestSet, Truth, read_test_set
from evaluation.colour_only import fit_colour_only
from evaluation.frozen_features import FrozenConfig, fit_frozen_features
from evaluation.references import REFERENCES
from evaluation.report import INVERSION, REPORT, draw_comparison, write_report
from evaluation.rivals import RIVAL, open_rival
from evaluation.scoring import (
    BY_INVERSION,
    EXPORTED,
    INVERTED,
    STUDENT,
    TEACHERS,
    TRUE_FEATURES,
    Says,
    Scored,
    hardware,
    score,
)
from evaluation.tables import print_tables
from student.export.stage import MODEL, onnx_predictor
from student.network import (
    WEIGHTS,
    Predict,
    elsewhere,
    folder_of,
    load_maps,
    load_student,
    predictor,
)
from teacher.fewshot import FewShotCNN, learned_from, load_teacher
from teacher.fit import TeacherStage, predict_samples
from teacher.generators.inversion import Guess, InversionConfig, Maps, invert
from teacher.generators.inversion_encoder import load_encoder
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.network import Generator

RESULT = "comparison.json"
PICTURE = "comparison.png"
FROZEN = "frozen_features"
GENERATED, HELD_OUT = "generated", "held_out"
OWN_ROWS = (*TEACHERS, STUDENT, EXPORTED, *REFERENCES, FROZEN, "colour_only")


@dataclass(frozen=True)
class CompareStage:
    """Stage `compare`.

    Args:
        held_out_images: rendered faces that no stage has seen; 0 for none.
        held_out_seed: of these faces.
        supervised_images: rendered faces with exact masks for the row `supervised`, as many as there are
            pseudo-labels; 0 for no such row.
        inversion_images: pictures of each set, the first ones, whose features the teacher gets by inversion; 0
            for none.
        inversion: how.
        perceptual_network: the network in whose feature maps its perceptual distance is taken, named as the encoder of
            `frozen`; none for the run's own student.
        frozen_features: the encoder of the row `frozen_features`.
        shown_images: pictures of each test set in `comparison.png`, the first ones.
        timed_images: pictures over which the seconds per image are taken (median, one at a time).
    """

    held_out_images: int = 500
    held_out_seed: int = 777_000_001
    supervised_images: int = 0
    inversion_images: int = 0
    inversion: InversionConfig = InversionConfig()
    perceptual_network: str = ""
    frozen_features: FrozenConfig = FrozenConfig()
    shown_images: int = 6
    timed_images: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts("compare", self, "shown_images", "timed_images")

    @property
    def folders(self) -> dict[str, Path]:
        """Networks that lie in folders, by the name of the input that each is."""
        named = {
            "maps": folder_of(self.perceptual_network),
            "frozen": folder_of(self.frozen_features.encoder),
        }
        return {name: path for name, path in named.items() if path}

    def without_folders(self) -> "CompareStage":
        """What is left when they move: stages know their inputs by content."""
        return self.at(dict.fromkeys(self.folders, Path()))

    def at(self, folders: Mapping[str, Path]) -> "CompareStage":
        """The same with these networks in other folders."""
        maps, encoder = self.perceptual_network, self.frozen_features.encoder
        if "maps" in folders:
            maps = elsewhere(maps, folders["maps"])
        if "frozen" in folders:
            encoder = elsewhere(encoder, folders["frozen"])
        return replace(
            self,
            perceptual_network=maps,
            frozen_features=replace(self.frozen_features, encoder=encoder),
        )


@dataclass(frozen=True)
class Comparison:
    """What the stage depends on: its settings, the recipe of `frozen_features`, test sets by name."""

    settings: CompareStage
    teacher: TeacherStage
    test_sets: Mapping[str, TestSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.test_sets:
            if name in (GENERATED, HELD_OUT, RIVAL[:-1]) or name.endswith(INVERTED) or "." in name:
                raise UserError(
                    f"sources.test_sets: a set cannot be named {name}, which means something else; choose "
                    "another name without dots."
                )


def compare(config: Comparison, folder: StageFolder) -> Result:
    """Run the stage: writes `comparison.json`, `report.html` and pictures; prints the tables.

    Reads the inputs `generator`, `teacher`, `student`, `export`, `annotations`, `labels`, those of
    `REFERENCES` that were trained, and `test_annotations`, test sets, rivals, `inversion_encoder` where they are
    given. The work is small: the main process does it, the others wait.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    settings = config.settings.at(folder.inputs)
    labels = LabelSet.load(folder.inputs["labels"])
    source = artifact_hash(folder.inputs["generator"])
    samples, masks = read_samples(folder.inputs["annotations"], labels, source)
    shots = learned_from(folder.inputs["teacher"])
    samples, masks = samples.take(shots), masks[shots]
    rivals = {
        name.removeprefix(RIVAL): open_rival(path, labels)
        for name, path in folder.inputs.items()
        if name.startswith(RIVAL)
    }
    device = PartialState().device
    generator = load_generator(folder.inputs["generator"], device)
    teacher = load_teacher(folder.inputs["teacher"], generator.features, labels.names).to(device)
    networks = {n: folder.inputs[n] for n in (STUDENT, *REFERENCES) if n in folder.inputs}
    students = {name: load_student(path)[0].to(device) for name, path in networks.items()}
    see: Maps = students[STUDENT].maps
    if settings.perceptual_network:
        see = load_maps(settings.perceptual_network, device)
    guess = None
    if path := folder.inputs.get("inversion_encoder"):
        guess = load_encoder(path, generator, source)
    colour_only = fit_colour_only(
        samples.images.to(device), masks.to(device), len(labels), labels.ignore_index,
        settings.seed,
    )  # fmt: skip
    frozen = {}
    if settings.frozen_features.encoder:
        maps = load_maps(settings.frozen_features.encoder, device)
        frozen[FROZEN] = fit_frozen_features(
            maps, settings.frozen_features.size, samples.images.to(device), masks, config.teacher, labels,
        )  # fmt: skip
    exported = folder.inputs["export"] / MODEL
    models: dict[str, Predict] = {
        STUDENT: predictor(students[STUDENT]),
        EXPORTED: onnx_predictor(exported),
        **{name: predictor(students[name]) for name in networks if name != STUDENT},
        **frozen,
        "colour_only": predictor(colour_only),
        **rivals,
    }

    sets: dict[str, Scored] = {}
    for name, given, says in _test_sets(config, folder, labels, generator, teacher):
        says |= {model: partial(_say, predict, given.pictures) for model, predict in models.items()}
        sets[name] = score(given, says, settings.timed_images)
        if count := settings.inversion_images:
            sets[name + INVERTED] = _with_inversion(
                name, sets[name].first(count), generator, teacher, see, guess,
                settings, folder,
            )  # fmt: skip

    hashes = {
        "generator": source,
        "teacher": folder.input_hash("teacher"),
        **{name: hash_file(path / WEIGHTS) for name, path in networks.items()},
        EXPORTED: hash_file(exported),
        **{n: folder.input_hash(n) for n in folder.inputs if n.startswith(RIVAL)},
    }
    tests = {name: scored.figures(labels) for name, scored in sets.items()}
    result = {
        "classes": list(labels.names), "labelled_samples": len(shots), "hardware": hardware(),
        "hashes": hashes, "test_sets": tests,
    }  # fmt: skip
    write_json(folder.path / RESULT, result)
    save_sheet(draw_comparison(sets, labels, settings.shown_images), folder.path / PICTURE)
    write_report(folder, result, sets, labels)
    print_tables(result)
    figures = {
        name: {model: row["miou"] for model, row in test["models"].items()}
        for name, test in tests.items()
    }
    inversions = [path.name for path in folder.path.glob(INVERSION.format("*"))]
    return Result([RESULT, PICTURE, REPORT, *inversions], figures)


def _say(predict: Predict, pictures: Tensor, numbers: list[int]) -> Tensor:
    return predict(pictures[numbers])


def _test_sets(
    config: Comparison,
    folder: StageFolder,
    labels: LabelSet,
    generator: Generator,
    teacher: FewShotCNN,
) -> Iterator[tuple[str, Truth, dict[str, Says]]]:
    """Every set by name, and what is asked there beside the models that every picture is shown to."""
    settings, size = config.settings, generator.config.resolution
    if path := folder.inputs.get("test_annotations"):
        tests, truths = read_samples(path, labels, artifact_hash(folder.inputs["generator"]))

        def by_features(numbers: list[int]) -> Tensor:
            return predict_samples(generator, teacher, tests.take(numbers))

        yield GENERATED, Truth(tests.images, truths, {}), {TRUE_FEATURES: by_features}
    if settings.held_out_images:
        faces = RenderedFaces(settings.held_out_seed, settings.held_out_images, size, labels=labels)
        yield HELD_OUT, Truth(*faces.whole(), {}), {}
    for name, spec in config.test_sets.items():
        spec = spec.at({part: folder.inputs[f"{name}.{part}"] for part in spec.paths})
        yield name, read_test_set(name, spec, labels, size), {}


def _with_inversion(
    name: str,
    scored: Scored,
    generator: Generator,
    teacher: FewShotCNN,
    maps: Maps,
    guess: Guess | None,
    settings: CompareStage,
    folder: StageFolder,
) -> Scored:
    """The same set with a row for the teacher that has no features but those it looks for.

    Writes `inversion_NAME.png`, pictures beside what the generator drew instead.
    """
    found = invert(
        generator, scored.pictures, settings.inversion, maps,
        Checkpoints(folder.checkpoints / f"inversion_{name}"), guess,
    )  # fmt: skip
    masks = predict_samples(generator, teacher, found.samples)
    # All rows' times are of one picture at a time; this one takes seconds, so that one will do.
    one = invert(generator, scored.pictures[:1], settings.inversion, maps, guess=guess)
    begun = monotonic()
    predict_samples(generator, teacher, one.samples)
    seconds = one.seconds + monotonic() - begun
    save_sheet(found.sheet(), folder.path / INVERSION.format(name))
    about = {
        "psnr": float(found.psnr.mean()),
        "psnr_each": found.psnr.tolist(),
        "inversion": plain(settings.inversion) | {"maps": settings.perceptual_network or STUDENT},
        "seconds_in_batches": found.seconds,
    }
    return scored.beside(BY_INVERSION, masks, seconds, about)
