"""The page that goes with an exported student: how to use it, its figures, how it was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import atomic_write, read_json
from common.stage_folder import CONFIG, MANIFEST, StageFolder, code_version
from datasets.labels import LabelSet

README = "README.md"

_TEXT = """\
# A student of threeshot

Segments pictures into {count} classes: {names}.

    pip install onnxruntime numpy pillow

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("student.onnx")
picture = np.asarray(Image.open("picture.jpg").convert("RGB"))
(labels,) = session.run(["labels"], {{"pictures": picture[None]}})
for index, name in enumerate(json.load(open("labels.json"))["names"]):
    print(f"{{name}}: {{(labels[0] == index).mean():.1%}}")
```

`pictures` is uint8 RGB `[n, h, w, 3]`, any number of any size; `labels` is uint8 `[n, h, w]`, indices of
the names.{probabilities} Resizing, normalisation and padding are in the graph; do none of them yourself.
The student has learned square pictures of {resolution} px that a face fills, and makes such squares of
what it is given: cut faces out of larger scenes first.

Does it work here as it did there? This prints 1.0, or a little less on another processor:

```python
import numpy as np
import onnxruntime

expected = np.load("expected.npz")
session = onnxruntime.InferenceSession("student.onnx")
(labels,) = session.run(["labels"], {{"pictures": expected["pictures"]}})
print((labels == expected["labels"]).mean())
```

## Files

| file | |
|---|---|
| `student.onnx` | the graph, 32-bit floats; for ONNX Runtime and others |
{int8_row}| `student.pt2` | the same graph for `torch.export.load("student.pt2").module()` |
| `model.safetensors`, `config.json` | weights for PyTorch, see below |
| `labels.json` | names, colours, the index that masks may hold for ignored pixels, resolution |
{last_row}
In a checkout of threeshot `python -m student.predict --model FOLDER PICTURES --out MASKS` does whole
folders and videos, and `student.deploy.from_pretrained(FOLDER)` is the student in PyTorch.

## Figures

{parameters:,} parameters, encoder {encoder}. {quality}

- The graphs and PyTorch agree on {agreement:.3%} of pixels or more at each of {sizes} sizes from 1x1 to
  2100x1500.
- Eight bits: {int8}.

## How it was made

threeshot {code}, stage `student` on {source}; ONNX Runtime {onnxruntime}, PyTorch {torch}.
"""
_SOURCES = {
    "pseudo_labels": "pictures of a generator, labelled by a few-shot teacher",
    "online": "pictures of a generator, labelled by a few-shot teacher",
    "faces": "rendered faces with exact masks",
}
_PROBABILITIES = (
    " `probabilities`, float `[n, classes, h, w]`, is the second output; ask for it by name."
)
_INT8_ROW = "| `student-int8.onnx` | the same, convolutions in 8 bits: for processors with VNNI |\n"

_LAST_ROW = "| `expected.npz` | two pictures and their label maps |\n"
_PAGE_ROW = "| `web/index.html` | the student in a browser: open it or send it, all is in it |\n"


def write_card(
    folder: StageFolder,
    subfolder: str,
    about: Mapping[str, Any],
    labels: LabelSet,
    figures: Mapping[str, Any],
) -> None:
    """Write `README.md` into the subfolder; the figures are those of the stage `export`."""
    trained = folder.inputs["student"]
    made = read_json(trained / CONFIG)["config"]
    best = read_json(trained / MANIFEST)["figures"]
    each = ", ".join(f"{name} {100 * iou:.1f}" for name, iou in best["iou"].items())
    with_probabilities = "probabilities" in figures["outputs"]
    text = _TEXT.format(
        count=len(labels), names=", ".join(labels.names), resolution=about["resolution"],
        probabilities=_PROBABILITIES if with_probabilities else "",
        last_row=_LAST_ROW,
        int8_row=_INT8_ROW if figures["int8"]["written"] else "",
        parameters=figures["parameters"], encoder=about["network"]["encoder"],
        quality=(
            f"Intersection over union in percent on pictures held back from its training, as they were "
            f"labelled: mean {100 * best['miou']:.1f}; {each}."
        ),
        agreement=figures["agreement"], sizes=len(figures["agreement_by_size"]["onnx"]),
        int8=figures["int8"]["said"].removeprefix("eight bits: "), code=code_version(),
        source=_SOURCES[made.get("student", made)["source"]],
        onnxruntime=figures["onnxruntime"], torch=figures["torch"],
    )  # fmt: skip
    with atomic_write(folder.path / subfolder / README) as partial:
        partial.write_text(text)


def mention_page(folder: Path) -> None:
    """Say in the `README.md` of an exported folder that it has a page for browsers."""
    text = (folder / README).read_text().replace(_PAGE_ROW, "")
    with atomic_write(folder / README) as partial:
        partial.write_text(text.replace(_LAST_ROW, _LAST_ROW + _PAGE_ROW))
