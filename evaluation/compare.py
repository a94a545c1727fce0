"""Stage `compare`: teacher, student and baselines on the same pictures.

`generated`: annotated samples of the generator, where the teacher has its features for nothing.
`held_out`: rendered faces; and the test sets that people name: pictures that no generator made. The
teacher would need an inversion there, so it has no row.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import TensorDataset

from datasets.annotations import Samples, read_samples
from datasets.artifacts import Result, StageFolder, artifact_hash, write_json
from datasets.confusion import confusion_matrix, iou_figures
from datasets.faces import RenderedFaces
from datasets.labels import LabelSet
from datasets.pictures import as_picture, grid, save_sheet
from datasets.test_sets import TestSet, Truth, read_test_set
from evaluation.colour_only import fit_colour_only
from evaluation.references import train_references
from student.network import ARCHITECTURE, WEIGHTS, Predict, load_student, predictor
from student.recipe import StudentStage
from teacher.fewshot import load_teacher
from teacher.fit import predict_samples
from teacher.generators import load_generator

RESULT = "comparison.json"
PICTURE = "comparison.png"
_CHUNK = 50

Sheet = tuple[Tensor, Tensor, dict[str, Tensor]]  # pictures, truth, every model's masks


@dataclass(frozen=True)
class CompareStage:
    """Stage `compare`.

    Args:
        held_out: rendered faces that no stage has seen; 0 for none.
        held_out_seed: of these faces.
        supervised: rendered faces with exact masks for the row `supervised`, as many as there are
            pseudo-labels; 0 for no such row.
        shown: pictures of each test set in `comparison.png`, the first ones.
        timed: pictures over which the seconds per image are taken (median, one at a time).
    """

    held_out: int = 500
    held_out_seed: int = 777_000_001
    supervised: int = 0
    shown: int = 6
    timed: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """What the stage depends on: its settings, the student's recipe for its references, test sets."""

    settings: CompareStage
    student: StudentStage
    test_sets: Mapping[str, TestSet] = field(default_factory=dict)


def compare(config: Comparison, folder: StageFolder) -> Result:
    """Run the stage: writes `comparison.json` and `comparison.png`, prints the table.

    Reads the inputs `generator`, `teacher`, `student`, `annotations`, `labels`; `test_annotations`,
    test sets, and `annotator` with `pseudo_labels` where they are given.
    """
    labels = LabelSet.load(folder.inputs["labels"])
    source = artifact_hash(folder.inputs["generator"])
    samples, masks = read_samples(folder.inputs["annotations"], labels, source)

    faces = None
    if count := config.settings.supervised:
        size = samples.images.shape[-1]
        faces = RenderedFaces(config.settings.held_out_seed + 1, count, size, labels=labels)
    annotated = TensorDataset(samples.images, masks)
    references = train_references(config.student, folder, labels, annotated, faces)

    if not PartialState().is_main_process:
        return Result([], {})
    result = _measure(config, folder, labels, samples, masks, references)
    write_json(folder.path / RESULT, result)
    print_table(result)
    figures = {
        name: {model: row["miou"] for model, row in test["models"].items()}
        for name, test in result["test_sets"].items()
    }
    weights = [f"{name}/{file}" for name in references for file in (WEIGHTS, ARCHITECTURE)]
    return Result([RESULT, PICTURE, *weights], figures)


def _measure(
    config: Comparison,
    folder: StageFolder,
    labels: LabelSet,
    samples: Samples,
    masks: Tensor,
    references: Sequence[str],
) -> dict[str, Any]:
    settings, device = config.settings, PartialState().device
    test_sets = {
        name: spec.at({part: folder.inputs[f"{name}.{part}"] for part in spec.paths})
        for name, spec in config.test_sets.items()
    }
    generator = load_generator(folder.inputs["generator"], device)
    teacher = load_teacher(folder.inputs["teacher"], generator.features).to(device)
    folders = {"student": folder.inputs["student"]} | {n: folder.path / n for n in references}
    colour_only = fit_colour_only(
        samples.images.to(device), masks.to(device), len(labels), labels.ignore_index, settings.seed
    )
    models: dict[str, Predict] = {
        name: predictor(load_student(path)[0].to(device)) for name, path in folders.items()
    }
    models["colour_only"] = predictor(colour_only)

    result: dict[str, Any] = {}
    sheets: dict[str, Sheet] = {}

    # Annotated samples: the teacher has its features, and its row is what the student is held against.
    if path := folder.inputs.get("test_annotations"):
        source = artifact_hash(folder.inputs["generator"])
        tests, truths = read_samples(path, labels, source)

        def by_features(indices: list[int]) -> Tensor:
            return predict_samples(generator, teacher, tests.take(indices))

        teacher_masks = by_features(list(range(len(tests))))
        row = iou_figures(confusion_matrix(truths, teacher_masks, len(labels)), labels.names)
        row["seconds_per_image"] = _seconds(lambda i: by_features([i % len(tests)]), settings.timed)
        rows, predictions = _score(models, tests.images, truths, labels, settings)
        sheets["generated"] = (tests.images, truths, {"teacher": teacher_masks} | predictions)
        result["generated"] = {"images": len(tests), "models": {"teacher": row} | rows}

    # Pictures that no generator made.
    for name, given in _real_sets(settings, test_sets, labels, generator.config.resolution):
        rows, predictions = _score(models, given.pictures, given.masks, labels, settings)
        sheets[name] = (given.pictures, given.masks, predictions)
        result[name] = {**given.about, "models": rows}

    _draw(folder, labels, sheets, settings.shown)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else (
        f"CPU, {torch.get_num_threads()} threads"
    )  # fmt: skip
    return {"classes": list(labels.names), "hardware": hardware, "test_sets": result}


def _real_sets(
    settings: CompareStage, test_sets: Mapping[str, TestSet], labels: LabelSet, size: int
) -> Iterator[tuple[str, Truth]]:
    """Rendered faces that no stage has seen, then the sets that people name."""
    if settings.held_out:
        faces = RenderedFaces(settings.held_out_seed, settings.held_out, size, labels=labels)
        pictures, masks = map(
            torch.stack, zip(*faces.__getitems__([*range(len(faces))]), strict=True)
        )
        yield "held_out", Truth(pictures, masks, {"images": len(faces)})
    for name, spec in test_sets.items():
        yield name, read_test_set(name, spec, labels, size)


def _score(
    models: dict[str, Predict],
    pictures: Tensor,
    truth: Tensor,
    labels: LabelSet,
    settings: CompareStage,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    rows, predictions = {}, {}
    for name, predict in models.items():
        predictions[name] = torch.cat([predict(chunk) for chunk in pictures.split(_CHUNK)])
        matrix = confusion_matrix(truth, predictions[name], len(labels))
        rows[name] = iou_figures(matrix, labels.names)

        def once(i: int, predict: Predict = predict) -> Tensor:
            return predict(pictures[[i % len(pictures)]])

        rows[name]["seconds_per_image"] = _seconds(once, settings.timed)
    return rows, predictions


def _seconds(once: Callable[[int], Tensor], count: int) -> float:
    """Median time of one picture at a time, after three that do not count."""
    times = []
    for i in range(count + 3):
        start = time.perf_counter()
        once(i)  # ends with a copy to the CPU, which waits for the device
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def _draw(
    folder: StageFolder,
    labels: LabelSet,
    sheets: dict[str, Sheet],
    shown: int,
) -> None:
    """Both test sets side by side: picture, truth and every model's masks."""
    drawn = []
    for name, (pictures, truth, predictions) in sheets.items():
        columns = {name: [as_picture(p) for p in pictures[:shown]]}
        columns["truth"] = [labels.paint(m.numpy()) for m in truth[:shown]]
        for model, masks in predictions.items():
            columns[model] = [labels.paint(m.numpy()) for m in masks[:shown]]
        drawn.append(grid(columns, labels))
    height = max(sheet.shape[0] for sheet in drawn)
    padded = [
        np.pad(s, ((0, height - s.shape[0]), (0, 16), (0, 0)), constant_values=255) for s in drawn
    ]
    save_sheet(np.concatenate(padded, axis=1), folder.path / PICTURE)


def print_table(result: dict[str, Any]) -> None:
    """The comparison in the terminal, a table for each test set."""
    # A log file has no width of its own; there the table keeps its full one.
    console = Console(width=None if sys.stdout.isatty() else 120)
    for name, test in result["test_sets"].items():
        title = f"{name}: {test['images']} images, IoU in percent"
        told = f"classes: {test['map']}" if test.get("map", "none") != "none" else None
        table = Table(title=title, caption=told)
        table.add_column("model")
        for column in ("mIoU", "no backgr.", *result["classes"], "ms/image"):
            table.add_column(column, justify="right")
        for model, row in test["models"].items():
            shares = [row["miou"], row["miou_foreground"]]
            shares += [row["iou"].get(label) for label in result["classes"]]
            cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
            table.add_row(model, *cells, f"{1000 * row['seconds_per_image']:.1f}")
        console.print(table)
    console.print(f"one image at a time on {result['hardware']}")
