"""The README of an exported student: how to use it, its figures, how it was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import atomic_write, read_json
from common.stage_folder import CONFIG, MANIFEST, StageFolder, code_version
from datasets.labels import LabelSet
from student.export.formats import EXPORT_FORMATS

README = "README.md"

_TEXT = """\
# A student of threeshot

Segments images into {count} classes: {names}.

    pip install onnxruntime numpy pillow

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("student.onnx")
image = np.asarray(Image.open("image.jpg").convert("RGB"))
(labels,) = session.run(["labels"], {{"images": image[None]}})
for index, name in enumerate(json.load(open("labels.json"))["names"]):
    print(f"{{name}}: {{(labels[0] == index).mean():.1%}}")
```

`images` is uint8 RGB `[n, h, w, 3]`, any number of any size; `labels` is uint8 `[n, h, w]`, indices of the
names.{probabilities} Resizing, normalisation and padding are in the graph; do none of them yourself. The
student was trained on square images of {resolution} px that a face fills, and resizes every image to such
a square: cut faces out of larger scenes first.

Does it work here as it did there? This prints 1.0, or a little less on another processor:

```python
import numpy as np
import onnxruntime

expected = np.load("expected.npz")
session = onnxruntime.InferenceSession("student.onnx")
(labels,) = session.run(["labels"], {{"images": expected["images"]}})
print((labels == expected["labels"]).mean())
```

## Files

| file | |
|---|---|
{rows}\
| `model.safetensors`, `config.json` | weights for PyTorch, see below |
| `labels.json` | names, colours, the index of ignored pixels in masks, resolution |
{last_row}
In a checkout of threeshot, `python -m student.predict --model FOLDER IMAGES --out MASKS` segments whole
folders and videos, and `student.export.deploy.from_pretrained(FOLDER)` is the student in PyTorch.

## Figures

{parameters:,} parameters, encoder {encoder}. {quality}

- The graphs and PyTorch agree on {agreement:.3%} of pixels or more at each of {sizes} sizes from 1x1 to
  2100x1500.
{inexact}
## How it was made

threeshot {code}, stage `student` on {source}; ONNX Runtime {onnxruntime}, PyTorch {torch}.
"""
_SOURCES = {
    "pseudo_labels": "images of a generator, labelled by a few-shot teacher",
    "online": "images of a generator, labelled by a few-shot teacher",
    "faces": "rendered faces with exact masks",
}
_PROBABILITIES = (
    " `probabilities`, float `[n, classes, h, w]`, is the second output; ask for it by name."
)

_LAST_ROW = "| `expected.npz` | two images and their label maps |\n"
_PAGE_ROW = (
    "| `web/index.html` | the student in a browser: open it or send it, it needs no other file |\n"
)


def write_card(
    folder: StageFolder,
    subfolder: str,
    about: Mapping[str, Any],
    labels: LabelSet,
    figures: Mapping[str, Any],
) -> None:
    """Write `README.md` into the subfolder.

    Args:
        about: the student's `student.json`.
        figures: those of the stage `export`.
    """
    trained = folder.inputs["student"]
    recipe = read_json(trained / CONFIG)["config"]["recipe"]
    best = read_json(trained / MANIFEST)["figures"]
    each = ", ".join(f"{name} {100 * iou:.1f}" for name, iou in best["iou"].items())
    inexact = [figures[name] for name, form in EXPORT_FORMATS.items() if not form.exact]
    written = [
        form for name, form in EXPORT_FORMATS.items() if form.exact or figures[name]["written"]
    ]
    text = _TEXT.format(
        count=len(labels), names=", ".join(labels.names), resolution=about["resolution"],
        probabilities=_PROBABILITIES if "probabilities" in figures["outputs"] else "",
        rows="".join(f"| `{form.file}` | {form.row} |\n" for form in written), last_row=_LAST_ROW,
        parameters=figures["parameters"], encoder=about["network"]["encoder"],
        quality=(
            f"Intersection over union in percent on images kept from its training, as they were "
            f"labelled: mean {100 * best['miou']:.1f}; {each}."
        ),
        agreement=figures["agreement"], sizes=len(figures["agreement_by_size"]["onnx"]),
        inexact="".join(f"- {_sentence(one['said'])}\n" for one in inexact), code=code_version(),
        source=_SOURCES[recipe["source"]], onnxruntime=figures["onnxruntime"], torch=figures["torch"],
    )  # fmt: skip
    with atomic_write(folder.path / subfolder / README) as partial:
        partial.write_text(text)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def mention_page(folder: Path) -> None:
    """Add the page for browsers to the `README.md` of an exported folder."""
    text = (folder / README).read_text().replace(_PAGE_ROW, "")
    with atomic_write(folder / README) as partial:
        partial.write_text(text.replace(_LAST_ROW, _LAST_ROW + _PAGE_ROW))
