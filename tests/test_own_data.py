"""What people bring: label sets, test sets, checkpoints and masks, through the command line."""

import json
import shutil
import subprocess
import sys

import torch
import yaml
from PIL import Image

from common.files import read_json
from datasets.faces import CLASS_NAMES, render_faces
from datasets.labels import LabelSet, read_mask, write_mask
from evaluation.compare import CompareStage
from pipeline.config import Config, smoke
from tests.conftest import LABELS, ROOT, SIZE, run_cli
from tests.teacher.foreign import make_tensors, write_nvidia


def test_three_classes_end_to_end_with_a_test_set_of_ones_own(chain, tmp_path):
    """Another label set by config alone; a folder of pictures whose masks speak a third one."""
    coarse = {
        "names": ["background", "face", "hair"], "colours": [[0, 0, 0], [250, 200, 150], [90, 40, 10]],
        "merges": {"face": ["skin", "eye", "eyebrow", "nose", "mouth", "ear"]},
    }  # fmt: skip
    (tmp_path / "coarse.yaml").write_text(yaml.safe_dump(coarse))
    labels = LabelSet.load(tmp_path / "coarse.yaml")
    to_coarse = labels.table(CLASS_NAMES)
    for name in ("train", "test"):
        shutil.copytree(chain.folder / name, tmp_path / name)
        for path in (tmp_path / name / "masks").iterdir():
            mask = read_mask(path, LabelSet.load(LABELS), (SIZE, SIZE))
            write_mask(path, to_coarse[mask], labels)
    pictures, masks = render_faces(8, torch.arange(4), 24)
    for i in range(4):
        (tmp_path / "own/pictures").mkdir(parents=True, exist_ok=True)
        shown = Image.fromarray(pictures[i].permute(1, 2, 0).numpy())
        shown.save(tmp_path / f"own/pictures/{i}.jpg")
        write_mask(tmp_path / f"own/masks/{i}.png", masks[i].numpy(), LabelSet.load(LABELS))
    own = tmp_path / "own"
    sources = {
        "labels": str(tmp_path / "coarse.yaml"), "generator": str(chain.generator),
        "annotations": str(tmp_path / "train"), "test_annotations": str(tmp_path / "test"),
        "test_sets": {
            "own": {
                "images": str(own / "pictures"), "masks": str(own / "masks"),
                "labels": str(LABELS), "first": 1, "last": 3,
            }
        },
    }  # fmt: skip
    config = yaml.safe_load(chain.config.read_text()) | {"sources": sources}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ("distill", "--config", tmp_path / "config.yaml", "--run.dir", tmp_path / "run")
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    result = read_json(tmp_path / "run/compare/comparison.json")
    assert result["classes"] == coarse["names"]
    row = result["test_sets"]["own"]
    assert (row["images"], row["split"], row["resolution"]) == (3, "1-3", SIZE)
    assert row["map"] == "skin, eye, eyebrow, nose, mouth, ear as face"
    assert "classes: skin, eye, eyebrow, nose, mouth, ear as face" in " ".join(made.stdout.split())
    assert set(row["models"]["student"]["iou"]) <= set(coarse["names"])

    # The pictures may move; other pictures are another input.
    sources["test_sets"]["own"]["pictures"] = str(own.rename(tmp_path / "moved") / "pictures")
    sources["test_sets"]["own"]["masks"] = str(tmp_path / "moved/masks")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "compare: done already" in run_cli(*command).stdout
    (tmp_path / "moved/pictures/2.jpg").rename(tmp_path / "moved/pictures/7.jpg")
    assert "inputs.own.pictures" in run_cli(*command).stderr


def test_three_masks_are_enough_and_smoke_is_short(chain, tmp_path):
    """No annotated test samples, no test set: still an exported student, and nothing pretended."""
    made = run_cli(
        "distill", "--smoke", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.test_annotations", "null", "--compare.held_out_images", 0,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "compare: skipped, there is no test set" in made.stdout
    assert (tmp_path / "run/export/student/student.onnx").exists()
    assert not (tmp_path / "run/compare").exists()
    figures = read_json(tmp_path / "run/teacher/manifest.json")["figures"]
    assert list(figures) == ["its own samples"]
    assert read_json(tmp_path / "run/label/pseudo_labels.json")["count"] == 12


def test_smoke_inverts_little():
    """Fifty pictures by three hundred steps are hours on a processor."""
    short = smoke(Config(compare=CompareStage(inversion_images=50))).compare
    assert (short.inversion_images, short.inversion.steps, short.inversion.random_starts) == (
        2,
        4,
        8,
    )
    none = smoke(Config(compare=CompareStage(inversion_images=0))).compare
    assert none.inversion_images == 0


def test_from_a_pkl_and_three_labelme_files_to_an_exported_student(tmp_path, monkeypatch):
    """The way that the README describes, with its config, on a small file of the true format."""
    write_nvidia(tmp_path / "generator.pkl", make_tensors(), monkeypatch)
    source = ("--generator", tmp_path / "generator.pkl")
    drawn, annotated = tmp_path / "samples", tmp_path / "annotated"
    made = run_cli(
        "sample", *source, "--truncation", 0.7, "--count", 8, "--choose", 3, "--out", drawn
    )
    assert made.returncode == 0, made.stderr
    for i in range(3):  # LabelMe saves beside the picture
        shapes = [
            {"label": label, "points": [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]}
            for label, x, y, w, h in (
                ("skin", 10, 10, 40, 50), ("hair", 8, 2, 44, 12), ("l_eye", 18, 24, 8, 5),
                ("r_eye", 38, 24, 8, 5), ("mouth", 24, 44, 16, 6), ("nose", 28, 30, 8, 10),
            )
        ]  # fmt: skip
        content = {
            "shapes": shapes,
            "imageHeight": 64,
            "imageWidth": 64,
            "imagePath": f"{i:04d}.png",
        }
        (drawn / f"images/{i:04d}.json").write_text(json.dumps(content))
    config = ("--config", ROOT / "configs/ffhq256.yaml")
    made = run_cli("annotate", "--samples", drawn, "--masks", drawn / "images", "--out", annotated)
    assert made.returncode == 0, made.stderr
    assert "warning: no mask shows ear" in made.stdout
    made = run_cli(
        "distill", *config, *source, "--smoke", "--run.dir", tmp_path / "run",
        "--sources.annotations", annotated, "--sources.test_annotations", "null",
        "--sources.test_sets", "{}", "--student.network.encoder", "resnet18",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    picture = drawn / "images/0000.png"
    predicted = subprocess.run(
        [sys.executable, "-m", "student.predict", "--model", tmp_path / "run/export/student/student.onnx",
         picture, "--out", tmp_path / "masks"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    with Image.open(tmp_path / "masks/0000.png") as mask:
        assert mask.size == (64, 64) and mask.mode == "P"
