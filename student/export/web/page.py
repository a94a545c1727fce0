"""The page for browsers, in one file: a page that is opened from a disk may read no other."""

import base64
import gzip
import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from common.files import atomic_write, read_json
from student.export.web.runtime import PACKAGE, VERSION, Runtime

PAGE = "web/index.html"
# Licences come with ONNX Runtime for Python; the package for browsers has none in it.
LICENCES = {
    "web/LICENSE.onnxruntime": "LICENSE",
    "web/NOTICES.onnxruntime": "ThirdPartyNotices.txt",
}


def write_page(folder: Path, runtime: Runtime) -> list[str]:
    """Add the page to an exported student.

    Args:
        folder: the exported student, with `student.onnx`, `labels.json` and `expected.npz`.

    Returns:
        the files, relative to the folder.
    """
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    texts = {name: Path(spec.origin).with_name(source) for name, source in LICENCES.items()}
    for name, source in texts.items():
        with atomic_write(folder / name) as partial:
            shutil.copyfile(source, partial)
    labels = read_json(folder / "labels.json")
    here = Path(__file__).parent
    template = Environment(loader=FileSystemLoader(here), undefined=StrictUndefined)
    text = template.get_template("page.html").render(
        style=(here / "page.css").read_text(),
        code=(here / "page.js").read_text(),
        labels=json.dumps(labels).replace("<", "\\u003c"),
        resolution=labels["resolution"],
        runtime=f"{PACKAGE} {VERSION}",
        licence=next(iter(texts.values())).read_text().strip(),
        example=_text(_first_image(folder / "expected.npz")),
        files={
            "model": _packed((folder / "student.onnx").read_bytes()),
            "script": _packed(runtime.script),
            "binary": _packed(runtime.binary),
        },
    )
    with atomic_write(folder / PAGE) as partial:
        partial.write_text(text)
    return [*LICENCES, PAGE]


def _first_image(path: Path) -> bytes:
    """An image of the kind that the student knows, as PNG: for visitors who have none at hand."""
    with np.load(path) as expected, io.BytesIO() as made:
        Image.fromarray(expected["images"][0]).save(made, format="PNG")
        return made.getvalue()


def _packed(data: bytes) -> str:
    """A quarter of the size for WebAssembly; browsers unpack it."""
    return _text(gzip.compress(data, mtime=0))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
