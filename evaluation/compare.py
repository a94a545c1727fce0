"""Stage `compare`: teacher, student and reference models on the same test sets.

`generated`: annotated samples of the generator, whose features the teacher gets while they are drawn.
`held_out`: rendered faces. No generator made these or the images of a user's test sets: there the teacher
needs GAN inversion, which is measured on the first `compare.inversion_images` images of each set, in a
table of their own, so that all rows of a table are about the same images.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from accelerate import PartialState
from torch import Tensor

from common.files import write_json
from common.stage_folder import Result, StageFolder
from datasets.annotations import read_annotated
from datasets.faces import RenderedFaces
from datasets.sheets import save_sheet
from datasets.test_sets import Truth, read_test_set
from evaluation.by_inversion import TeacherByInversion
from evaluation.models import Loaded, load_run, model_hashes, open_models
from evaluation.options import Comparison
from evaluation.pages import REPORT
from evaluation.predictions import PredictIndices, SetPredictions, hardware, predict_set
from evaluation.report import INVERSION_SHEET, write_report
from evaluation.report_images import draw_comparison
from evaluation.rounds import read_rounds, rounds_table
from evaluation.rows import GENERATED, HELD_OUT, INVERTED, STUDENT, TEACHER
from evaluation.scoring import score
from evaluation.tables import comparison_table, print_legend, print_table
from evaluation.unlabelled import KEPT_BACK, look, shares_table
from teacher.fewshot import FewShotCNN
from teacher.predict import predict_samples

RESULT = "comparison.json"
SHEET = "comparison.png"


def compare(config: Comparison, folder: StageFolder) -> Result:
    """Run the stage: writes `comparison.json`, `report.html` and image sheets; prints the tables.

    Reads the inputs `labels`, `generator`, `teacher`, `student`, `export` and, if there are any,
    `annotations`, `test_annotations`, those named in `REFERENCES`, `inversion_encoder`,
    `perceptual_network`, `frozen_features`, `rivals.NAME` and, of the test set NAME, `NAME.images`,
    `NAME.masks`, `NAME.labels`, `NAME.merges`. The work is small: the main process does it, others wait.
    """
    if not PartialState().is_main_process:
        return Result([], {})
    settings = config.settings.at(folder.inputs)
    loaded = load_run(folder)
    models = open_models(settings, config.teacher, loaded, folder)
    by_inversion = None
    if settings.inversion_images:
        by_inversion = TeacherByInversion(settings, loaded, folder)

    sets: dict[str, SetPredictions] = {}
    for name, test_set, teachers in _test_sets(config, folder, loaded):
        students = {row: _by_index(predict, test_set.images) for row, predict in models.items()}
        sets[name] = predict_set(test_set, teachers | students, settings.timed_images)
        if by_inversion:
            sets[name + INVERTED] = by_inversion.add_row(name, sets[name])

    result = {
        "classes": list(loaded.labels.names),
        "labelled_samples": len(loaded.shots.samples) if loaded.shots else 0,
        "hardware": hardware(),
        "hashes": model_hashes(loaded, folder),
        "test_sets": {name: score(some, loaded.labels) for name, some in sets.items()},
    }
    if rounds := read_rounds(folder.inputs):
        result["rounds"] = rounds
    if config.look:
        size = loaded.generator.resolution
        result["photographs"] = look(config.look, models[STUDENT], size, loaded.labels, folder)
    write_json(folder.path / RESULT, result)
    if sets:
        sheet = draw_comparison(sets, loaded.labels, settings.shown_images)
        save_sheet(sheet, folder.path / SHEET)
    write_report(folder, result, sets, loaded.labels)
    _print(result)
    return _stage_result(folder, result)


def _test_sets(
    config: Comparison, folder: StageFolder, loaded: Loaded
) -> Iterator[tuple[str, Truth, dict[str, PredictIndices]]]:
    """Every test set: its name, its content, and the teacher's row where the true features are known."""
    labels, generator = loaded.labels, loaded.generator
    if path := folder.inputs.get("test_annotations"):
        samples, masks = read_annotated(path, labels, loaded.generator_hash)

        def from_features(teacher: FewShotCNN, indices: list[int]) -> Tensor:
            return predict_samples(generator, teacher, samples.take(indices))

        teachers = {TEACHER: loaded.teacher, **loaded.earlier_teachers}
        rows: dict[str, PredictIndices] = {
            name: partial(from_features, teacher) for name, teacher in teachers.items()
        }
        yield GENERATED, Truth(samples.images, masks, {}), rows
    if count := config.settings.held_out_images:
        seed = config.settings.held_out_seed
        faces = RenderedFaces(seed, count, generator.resolution, labels=labels)
        yield HELD_OUT, Truth(*faces.whole(), {}), {}
    for name, spec in config.test_sets.items():
        spec = spec.at({part: folder.inputs[f"{name}.{part}"] for part in spec.paths})
        yield name, read_test_set(name, spec, labels, generator.resolution), {}


def _by_index(predict: Callable[[Tensor], Tensor], images: Tensor) -> PredictIndices:
    """A segmenter of images as one of their indices."""

    def predict_indices(indices: list[int]) -> Tensor:
        return predict(images[indices])

    return predict_indices


def _stage_result(folder: StageFolder, result: Mapping[str, Any]) -> Result:
    """The stage's files, and mIoU by test set and row for its manifest."""
    miou = {
        name: {row: figures["miou"] for row, figures in test_set["models"].items()}
        for name, test_set in result["test_sets"].items()
    }
    inversions = [path.name for path in folder.path.glob(INVERSION_SHEET.format("*"))]
    sheets = [name for name in (SHEET, KEPT_BACK) if (folder.path / name).exists()]
    return Result([RESULT, REPORT, *sheets, *inversions], miou)


def _print(result: Mapping[str, Any]) -> None:
    """Print the tables of `comparison.json`."""
    for name, test_set in result["test_sets"].items():
        print_table(comparison_table(name, test_set, result["classes"]))
    if result["test_sets"]:
        print_legend(result["hardware"])
    if "photographs" in result:
        print_table(shares_table(result["photographs"]))
    if "rounds" in result:
        print_table(rounds_table(result["rounds"]))
