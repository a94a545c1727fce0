"""What is bundled for a user's own photographs: a generator with its discriminator, and a teacher of it."""

from pathlib import Path

import torch
from PIL import Image

from common.checkpoints import load_weights
from common.confusion import confusion_matrix, iou_figures
from common.stage_folder import artifact_hash, read_manifest
from datasets.annotations import read_annotated
from datasets.faces import render_faces
from datasets.labels import LabelSet
from datasets.portrait.world import STREET
from datasets.sheets import to_array
from teacher.fewshot import load_teacher
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed
from teacher.generators.stylegan2.discriminator import Discriminator
from teacher.generators.stylegan2.files import DISCRIMINATOR
from teacher.generators.stylegan2.start import read_start
from teacher.predict import predict_samples
from tests.conftest import LABELS, ROOT, run_cli

FACES = ROOT / "assets/faces64"
GENERATOR, TEACHER = FACES / "generator", FACES / "teacher"


def test_the_teacher_reads_the_bundled_generator() -> None:
    labels, known_as = LabelSet.load(LABELS), artifact_hash(GENERATOR)
    assert read_manifest(TEACHER)["inputs"]["generator"] == known_as
    generator = load_generator(GENERATOR)
    samples, masks = read_annotated(FACES / "annotated_test", labels, known_as)
    some = list(range(40))
    teacher = load_teacher(TEACHER, generator, labels.names)
    predicted = predict_samples(generator, teacher, samples.take(some))
    matrix = confusion_matrix(masks[some], predicted, len(labels))
    assert iou_figures(matrix, labels.names)["miou"] > 0.83


def test_the_discriminator_tells_rendered_faces_from_drawn_ones() -> None:
    start = read_start(GENERATOR)
    assert start.discriminator
    assert (GENERATOR / DISCRIMINATOR).stat().st_size < 700_000
    discriminator = Discriminator(start.network.channels)
    load_weights(discriminator, GENERATOR / DISCRIMINATOR, "")
    generator = load_generator(GENERATOR)
    drawn = draw(generator, latents_of_seed(generator, 5, 1.0), range(64)).images
    rendered = render_faces(4_000_000_001, torch.arange(64), 64)[0]
    with torch.no_grad():
        fake, real = (discriminator(images.float() / 127.5 - 1) for images in (drawn, rendered))
    assert real.mean() > 1 and fake.mean() < -1
    assert (real > 0).float().mean() > 0.75 and (fake < 0).float().mean() > 0.75


def test_from_photographs_to_a_report_without_a_mask(tmp_path: Path) -> None:
    """The whole way that docs/your-own-photographs.md describes, cut short."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for i, face in enumerate(render_faces(1, torch.arange(44), 80, STREET)[0]):
        Image.fromarray(to_array(face)).save(photographs / f"{i}.jpg")
    config = ROOT / "configs/photographs.yaml"
    made = run_cli(
        "distill",
        "--config",
        config,
        "--photographs",
        photographs,
        "--smoke",
        "--run.dir",
        tmp_path,
    )
    assert made.returncode == 0, made.stderr
    assert "20 photographs of" in made.stdout and "24 kept back" in made.stdout
    assert "24 photographs kept back, without masks" in made.stdout
    for file in (
        "student/photographs.png", "label/pseudo_labels.png", "compare/report.html",
        "compare/kept_back.png", "export/student/student.onnx",
    ):  # fmt: skip
        assert (tmp_path / file).exists(), file
    made = run_cli(
        "compare", "--config", config, "--photographs", photographs, "--smoke", "--run.dir", tmp_path,
        "--run.overwrite", "true", "--sources.kept_back", "30",
    )  # fmt: skip
    assert made.returncode == 2
    assert "sources.kept_back is 30" in made.stderr and "all photographs but 24" in made.stderr
    assert (tmp_path / "compare/report.html").exists()  # nothing that was made is lost
