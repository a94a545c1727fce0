"""The recipes of docs/extending.md: every example is saved, imported, put into its table and used."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.confusion import confusion_per_image
from common.files import write_json
from datasets.faces import render_faces
from datasets.labels import LabelSet
from datasets.masks import MASK_FORMATS, read_masks
from evaluation.metrics import METRICS
from evaluation.predictions import SetPredictions
from evaluation.rows import STUDENT
from evaluation.scoring import score
from evaluation.tables import comparison_table
from student.base import NetworkConfig
from student.decoders import DECODERS
from student.export.acceptance import write_exact
from student.export.deploy import Deployed
from student.export.formats import EXPORT_FORMATS
from student.export.graph import trace
from student.network import build_student
from teacher.generators.registry import GENERATORS, load_generator
from teacher.generators.sampling import draw, latents_of_seed
from teacher.generators.stylegan2.formats import FORMATS
from tests.conftest import ROOT
from tests.teacher.generators.stylegan2.foreign import rosinality_tensors
from tests.teacher.generators.stylegan2.original import make_tensors

PAGE = ROOT / "docs/extending.md"
TABLES = {
    "A generator family": "teacher/generators/registry.py",
    "A checkpoint format": "teacher/generators/stylegan2/formats/__init__.py",
    "A decoder": "student/decoders/__init__.py",
    "A mask format": "datasets/masks/__init__.py",
    "A metric": "evaluation/metrics/__init__.py",
    "An export format": "student/export/formats/__init__.py",
}


def examples() -> dict[str, str]:
    """The example of every section, by its heading."""
    found = re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    return dict(found)


def load(heading: str, folder: Path) -> ModuleType:
    """An example as a module."""
    path = folder / "example.py"
    path.write_text(examples()[heading])
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_has_a_recipe() -> None:
    assert examples().keys() == TABLES.keys()
    text = PAGE.read_text()
    for path in TABLES.values():
        assert path in text and (ROOT / path).is_file()


def test_a_file_goes_where_its_table_is() -> None:
    for heading, code in examples().items():
        place = ROOT / code.splitlines()[0].removeprefix("# ")
        assert place.parent == (ROOT / TABLES[heading]).parent and not place.exists()


def test_a_generator_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = load("A generator family", tmp_path)
    monkeypatch.setitem(GENERATORS, "dcgan", family)
    about = {"z_size": 8, "widths": [16, 8, 4]}
    write_json(tmp_path / "made/generator.json", {"family": "dcgan", **about})
    save_file(family.DCGAN(**about).state_dict(), tmp_path / "made/generator.safetensors")
    generator = load_generator(tmp_path / "made")
    assert isinstance(generator, family.DCGAN)
    samples = draw(generator, latents_of_seed(generator, 0, 1.0), range(3))
    assert samples.images.shape == (3, 3, 16, 16) and samples.latents["z"].shape == (3, 8)
    maps = generator.synthesise(samples.latents)[1]
    assert [(m.shape[1], m.shape[3]) for m in maps] == [*generator.features.values()]


def test_a_checkpoint_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "example", load("A checkpoint format", tmp_path))
    tensors = rosinality_tensors(make_tensors())
    torch.save({"g_ema": tensors}, tmp_path / "known.pt")
    kept = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(kept, tmp_path / "new.safetensors")
    known, new = (load_generator(tmp_path / name) for name in ("known.pt", "new.safetensors"))
    images = [draw(g, latents_of_seed(g, 0, 1.0), [0]).images for g in (known, new)]
    assert torch.equal(*images)


def test_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS, "segformer", load("A decoder", tmp_path).SegFormer)
    config = NetworkConfig("resnet10t", "segformer", levels=3, decoder_width=8)
    student = build_student(config, 5)
    logits = student(torch.zeros(2, 3, 33, 47, dtype=torch.uint8))
    assert logits.shape == (2, 5, 33, 47)
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert student.get_parameter("project.2.weight").grad is not None
    assert trace(Deployed(student.eval(), 32)).onnx.graph.output


def test_a_mask_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: LabelSet) -> None:
    monkeypatch.setitem(MASK_FORMATS, "NumPy", load("A mask format", tmp_path))
    mask = render_faces(0, torch.arange(1), 16)[1][0].numpy()
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/0000.npy", mask)
    read = read_masks(tmp_path / "masks", labels, {"0000": (16, 16)})
    assert np.array_equal(read["0000"], mask)


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: LabelSet) -> None:
    metric = load("A metric", tmp_path).WEIGHTED_IOU
    monkeypatch.setitem(METRICS, metric.name, metric)
    images, truth = render_faces(0, torch.arange(2), 16)
    masks = truth.roll(1, 2)
    made = score(SetPredictions(images, truth, {}, {STUDENT: masks}, {STUDENT: 0.1}), labels)
    row = made["models"][STUDENT]
    counts = confusion_per_image(truth, masks, len(labels)).sum(0)
    pixels = counts.sum(1)
    weights = dict(zip(labels.names, (pixels / pixels.sum()).tolist(), strict=True))
    expected = sum(weights[name] * iou for name, iou in row["iou"].items())
    assert row[metric.name] == pytest.approx(expected)
    assert len(row["per_image"][metric.name]) == 2
    assert metric.heading in comparison_table("set", made, list(labels.names)).header


def test_an_export_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = load("An export format", tmp_path).OptimisedOnnx()
    monkeypatch.setitem(EXPORT_FORMATS, "optimised_onnx", form)
    network = NetworkConfig("resnet10t", levels=2, decoder_width=8, detail_channels=4)
    student = build_student(network, 5).eval().requires_grad_(False)
    traced = trace(Deployed(student, 16))
    images = render_faces(0, torch.arange(2), 16)[0]
    shares = write_exact(form, traced, images, tmp_path / form.file, 0.99)
    assert (tmp_path / form.file).stat().st_size > 1000 and len(shares) == 8
