"""The student on photographs that nothing learned from and that have no masks: what can be seen of it.

How often it is right nobody knows. What is told: its masks, where it contradicts itself on mirror images,
and the share of the pixels that it gives each class, beside that in the pseudo-labels it learned from.

Shapes: N = photographs, R = side of the images.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.stage_folder import StageFolder
from datasets.labels import LabelSet
from datasets.photograph_overview import SHEET as OVERVIEW
from datasets.photographs import read_kept_back
from datasets.pseudo_labels import PseudoLabels
from datasets.sheets import ImageArray, grid, save_sheet, to_array
from evaluation.options import Look
from evaluation.report_images import file_data_url, marked
from evaluation.tables import Table
from student.network import Predict, predict_all
from teacher.generators.stylegan2.record import GROWTH
from teacher.label import SHEET as LABELLED

KEPT_BACK = "kept_back.png"
_ROWS, _COLUMNS = 8, 3  # of photographs on the sheet
_COUNTED = 200  # pseudo-labelled samples whose classes are counted


def look(
    config: Look, student: Predict, size: int, labels: LabelSet, folder: StageFolder
) -> dict[str, Any]:
    """Segment the photographs that were kept back; writes `kept_back.png`.

    Args:
        size: side of the images that the student was trained on, in pixels.
        folder: of the stage `compare`, with the input `photographs` and, if there is one, `pseudo_labels`.

    Returns:
        For `comparison.json`: `images`; `shares`, of each class by name the share of the pixels, in the
        pseudo-labels (or none) and in the photographs; `mirrored`, the share of the pixels that have the
        same class in the mirror image (or none).
    """
    images = read_kept_back(folder.inputs["photographs"], size, config.kept_back)
    masks, contradicted = predict_all(student, images), None
    if config.mirror:
        contradicted = masks != predict_all(student, images.flip(-1)).flip(-1)
    before = _shares_of_pseudo_labels(folder.inputs.get("pseudo_labels"), len(labels))
    now = _shares(masks, len(labels))
    save_sheet(_draw(images, masks, contradicted, labels), folder.path / KEPT_BACK)
    return {
        "images": len(images),
        "shares": {
            name: [before[i] if before else None, now[i]] for i, name in enumerate(labels.names)
        },
        "mirrored": None if contradicted is None else 1 - float(contradicted.float().mean()),
    }


def section(found: dict[str, Any], folder: StageFolder) -> dict[str, Any]:
    """The report's values for what `look` found: a table, and pictures by caption."""
    generator, labelled = folder.inputs["generator"], folder.inputs.get("pseudo_labels")
    seen = [folder.inputs["student"] / OVERVIEW, generator / OVERVIEW]  # whoever learned from them
    places = {
        "The photographs before training": next(filter(Path.exists, seen), seen[0]),
        "The same samples as the generator learned, from above downwards": generator / GROWTH,
    }
    if labelled:
        places["Samples of the generator with the teacher's masks"] = labelled / LABELLED
    return {
        "table": shares_table(found),
        "sheet": file_data_url(folder.path / KEPT_BACK),
        "pictures": {what: file_data_url(path) for what, path in places.items() if path.exists()},
    }


def shares_table(found: dict[str, Any]) -> Table:
    """The share of the pixels that each class has."""
    names = list(found["shares"])
    rows = [
        [
            title,
            *(
                "-" if pair[i] is None else f"{100 * pair[i]:.1f}"
                for pair in found["shares"].values()
            ),
        ]
        for i, title in enumerate(("pseudo-labels", "photographs"))
    ]
    notes = [
        "percent of the pixels that have each class; a class that differs much is worth a look"
    ]
    if found["mirrored"] is not None:
        notes.append(
            f"the same class in the mirror image: {100 * found['mirrored']:.1f} % of the pixels"
        )
    return Table(
        f"{found['images']} photographs kept back, without masks", ["", *names], rows, notes
    )


def _shares(masks: Tensor, classes: int) -> list[float]:
    """Share of the known pixels of each class, of masks [N, R, R]."""
    counts = torch.bincount(masks.flatten().long(), minlength=256)[:classes]
    return (counts / counts.sum().clamp_min(1)).tolist()


def _shares_of_pseudo_labels(path: Path | None, classes: int) -> list[float] | None:
    """The same of the first pseudo-labelled samples; none without any."""
    if path is None:
        return None
    store = PseudoLabels(path)
    some = [store[i].mask for i in range(min(_COUNTED, len(store)))]
    return _shares(torch.stack(some), classes)


def _draw(
    images: Tensor, masks: Tensor, contradicted: Tensor | None, labels: LabelSet
) -> ImageArray:
    """Photographs beside their masks and, red, where the student contradicts itself."""
    columns: dict[str, list[ImageArray]] = {}
    some = torch.arange(min(len(images), _ROWS * _COLUMNS))
    for number, part in enumerate(some.split(_ROWS), 1):
        columns[f"photographs {number}"] = [to_array(images[i]) for i in part]
        columns[f"student {number}"] = [labels.paint(masks[i].numpy()) for i in part]
        if contradicted is not None:
            columns[f"mirror {number}"] = [marked(images[i], contradicted[i]) for i in part]
    return grid(columns, labels)
