"""What people bring: label sets, test sets, checkpoints and masks, through the command line."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import read_annotated, write_samples
from datasets.faces import CLASS_NAMES, render_faces
from datasets.labels import LabelSet, read_mask, write_mask
from tests.conftest import LABELS, ROOT, SIZE, Chain, chain_config, run_cli, run_process
from tests.teacher.generators.stylegan2.foreign import write_nvidia
from tests.teacher.generators.stylegan2.original import make_tensors

COARSE: dict[str, Any] = {
    "names": ["background", "face", "hair"], "colours": [[0, 0, 0], [250, 200, 150], [90, 40, 10]],
    "merges": {"face": ["skin", "eye", "eyebrow", "nose", "mouth", "ear"]},
}  # fmt: skip


def with_three_classes(chain: Chain, folder: Path, labels: LabelSet) -> None:
    """The annotated samples of the chain, with masks of the coarse label set."""
    to_coarse = labels.table(CLASS_NAMES)
    for name in ("train", "test"):
        shutil.copytree(chain.folder / name, folder / name)
        for path in (folder / name / "masks").iterdir():
            mask = read_mask(path, LabelSet.load(LABELS), (SIZE, SIZE))
            write_mask(path, to_coarse[mask], labels)


def write_test_set(folder: Path) -> dict[str, str | int]:
    """Four images with masks of the eight classes; gives it as a config has it, but for the first."""
    (folder / "images").mkdir(parents=True)
    images, masks = render_faces(8, torch.arange(4), 24)
    for i in range(4):
        Image.fromarray(images[i].permute(1, 2, 0).numpy()).save(folder / f"images/{i}.jpg")
        write_mask(folder / f"masks/{i}.png", masks[i].numpy(), LabelSet.load(LABELS))
    return {
        "images": str(folder / "images"), "masks": str(folder / "masks"),
        "labels": str(LABELS), "first": 1, "last": 3,
    }  # fmt: skip


def test_three_classes_end_to_end_with_a_test_set_of_ones_own(chain: Chain, tmp_path: Path) -> None:
    """Another label set by config alone; a folder of images whose masks have a third one."""
    (tmp_path / "coarse.yaml").write_text(yaml.safe_dump(COARSE))
    with_three_classes(chain, tmp_path, LabelSet.load(tmp_path / "coarse.yaml"))
    config, own = chain_config(chain.folder), write_test_set(tmp_path / "own")
    config["sources"] |= {
        "labels": str(tmp_path / "coarse.yaml"), "annotations": str(tmp_path / "train"),
        "test_annotations": str(tmp_path / "test"), "test_sets": {"own": own},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ("distill", "--config", tmp_path / "config.yaml", "--run.dir", tmp_path / "run")
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    result = read_json(tmp_path / "run/compare/comparison.json")
    assert result["classes"] == COARSE["names"]
    row = result["test_sets"]["own"]
    assert (row["images"], row["split"], row["resolution"]) == (3, "1-3", SIZE)
    assert row["map"] == "skin, eye, eyebrow, nose, mouth, ear as face"
    assert "classes: skin, eye, eyebrow, nose, mouth, ear as face" in " ".join(made.stdout.split())
    assert set(row["models"]["student"]["iou"]) <= set(COARSE["names"])

    # The images may move; other images are another input.
    moved = (tmp_path / "own").rename(tmp_path / "moved")
    own |= {"images": str(moved / "images"), "masks": str(moved / "masks")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "compare: done already" in run_cli(*command).stdout
    (moved / "images/2.jpg").rename(moved / "images/7.jpg")
    assert "inputs.own.images" in run_cli(*command).stderr


def test_three_masks_are_enough_and_smoke_is_short(chain: Chain, tmp_path: Path) -> None:
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


def write_labelme(folder: Path, count: int) -> None:
    """Masks of drawn samples as LabelMe saves them, beside the images."""
    boxes = (
        ("skin", 10, 10, 40, 50), ("hair", 8, 2, 44, 12), ("l_eye", 18, 24, 8, 5),
        ("r_eye", 38, 24, 8, 5), ("mouth", 24, 44, 16, 6), ("nose", 28, 30, 8, 10),
    )  # fmt: skip
    shapes = [
        {"label": label, "points": [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]}
        for label, x, y, w, h in boxes
    ]
    for i in range(count):
        content = {
            "shapes": shapes, "imageHeight": 64, "imageWidth": 64, "imagePath": f"{i:04d}.png",
        }  # fmt: skip
        (folder / f"{i:04d}.json").write_text(json.dumps(content))


def test_from_a_pkl_and_three_labelme_files_to_an_exported_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way that the README describes, with its config, on a small file of the true format."""
    with monkeypatch.context() as patch:  # NVIDIA's modules exist while the file is written
        write_nvidia(tmp_path / "generator.pkl", make_tensors(), patch)
    source = ("--generator", tmp_path / "generator.pkl")
    drawn, annotated = tmp_path / "samples", tmp_path / "annotated"
    made = run_cli(
        "sample", *source, "--truncation", 0.7, "--count", 8, "--choose", 3, "--out", drawn
    )
    assert made.returncode == 0, made.stderr
    write_labelme(drawn / "images", 3)
    made = run_cli("annotate", "--samples", drawn, "--masks", drawn / "images", "--out", annotated)
    assert made.returncode == 0, made.stderr
    assert "warning: no mask shows ear" in made.stdout
    made = run_cli(
        "distill", "--config", ROOT / "configs/ffhq256.yaml", *source, "--smoke",
        "--run.dir", tmp_path / "run", "--sources.annotations", annotated,
        "--sources.test_annotations", "null", "--sources.test_sets", "{}",
        "--student.network.encoder", "resnet18",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    predicted = run_process([
        sys.executable, "-m", "student.predict", str(drawn / "images/0000.png"), "--model",
        str(tmp_path / "run/export/student/student.onnx"), "--out", str(tmp_path / "masks"),
    ])  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    with Image.open(tmp_path / "masks/0000.png") as mask:
        assert mask.size == (64, 64) and mask.mode == "P"


def test_annotated_samples_of_several_folders(
    chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    """A list of folders is as one folder that holds the samples of all of them."""
    source = artifact_hash(chain.generator)
    samples, masks = read_annotated(chain.folder / "train", labels, source)
    for name, chosen in {"a": [0, 1], "b": [2]}.items():
        write_samples(tmp_path / name, samples.take(chosen), source, {})
        (tmp_path / name / "masks").mkdir()
        for i, number in enumerate(chosen):
            write_mask(tmp_path / name / f"masks/{i:04d}.png", masks[number].numpy(), labels)
    folders = f"[{tmp_path / 'a'}, {tmp_path / 'b'}]"
    weights = []
    for name, annotations in {"one": chain.folder / "train", "several": folders}.items():
        options = ["--run.dir", tmp_path / name, "--sources.annotations", annotations]
        made = run_cli("teacher", "--config", chain.config, *options, "--teacher.epochs", 2)
        assert made.returncode == 0, made.stderr
        weights.append((tmp_path / name / "teacher/teacher.safetensors").read_bytes())
    assert weights[0] == weights[1]
    inputs = read_json(tmp_path / "several/teacher/manifest.json")["inputs"]
    assert {"annotations", "annotations.2"} <= set(inputs)
    missing = ["--run.dir", tmp_path / "several", "--sources.annotations", f"[{tmp_path / 'c'}]"]
    made = run_cli("teacher", "--config", chain.config, *missing)
    assert made.returncode == 2 and str(tmp_path / "c") in made.stderr
