"""A whole run through the command line: what it leaves behind, and how it is taken up again."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from common.files import read_json
from datasets.faces import render_faces
from datasets.labels import LabelSet
from student.export.deploy import Deployed
from student.network import load_student
from tests.conftest import SIZE, Chain, draw_masks, run_cli

STAGES = ("teacher", "label", "student", "export", "labels_alone", "compare")


def test_every_stage_leaves_its_payload(finished: Path) -> None:
    for stage in STAGES:
        manifest = read_json(finished / stage / "manifest.json")
        assert all((finished / stage / name).is_file() for name in manifest["files"])
        assert not (finished / stage / "checkpoints").exists()
    result = read_json(finished / "compare/comparison.json")
    assert result["test_sets"]["generated"]["images"] == 5
    everywhere = {"student", "student_onnx", "labels_alone", "colour_only"}
    rows = {name: set(test["models"]) for name, test in result["test_sets"].items()}
    assert rows == {
        "generated": everywhere | {"teacher"},
        "held_out": everywhere,
        "generated_inverted": everywhere | {"teacher", "teacher_by_inversion"},
        "held_out_inverted": everywhere | {"teacher_by_inversion"},
    }
    with Image.open(finished / "compare/comparison.png") as image:
        assert image.width > 200
    assert (finished / "student/metrics.jsonl").read_text().count("\n") == 4
    assert list((finished / "student/tensorboard").iterdir())


def test_running_again_does_nothing_and_says_so(chain: Chain, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    again = run_cli("distill", "--config", chain.config, "--run.dir", finished)
    assert again.returncode == 0
    assert again.stdout.count("done already") == len(STAGES)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def test_a_moved_run_stays_valid(chain: Chain, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "elsewhere")
    again = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path / "elsewhere")
    assert again.stdout.count("done already") == len(STAGES), again.stderr


def test_another_config_is_refused_by_name(chain: Chain, finished: Path) -> None:
    other = run_cli(
        "teacher", "--config", chain.config, "--run.dir", finished, "--teacher.epochs", 7
    )
    assert other.returncode == 2
    assert "config.epochs: 6, now 7" in other.stderr
    assert (finished / "teacher/manifest.json").exists()


def test_overwriting_the_teacher_invalidates_what_follows(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    common = ("--config", chain.config, "--run.dir", run, "--teacher.epochs", 2)
    made = run_cli("teacher", *common, "--run.overwrite", "true")
    assert made.returncode == 0, made.stderr
    stale = run_cli("label", *common)
    assert stale.returncode == 2
    assert "inputs.teacher" in stale.stderr


def test_a_wrong_mask_stops_the_teacher_before_anything_is_made(
    chain: Chain, tmp_path: Path, labels: LabelSet
) -> None:
    shutil.copytree(chain.folder / "train", tmp_path / "train")
    Image.fromarray(np.full((SIZE, SIZE), 9, np.uint8)).save(tmp_path / "train/masks/0001.png")
    command = (
        "teacher", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotations", tmp_path / "train",
    )  # fmt: skip
    made = run_cli(*command)
    assert made.returncode == 2
    assert "masks/0001.png holds index 9" in made.stderr
    draw_masks(tmp_path / "train", labels)
    mended = run_cli(*command, "--run.overwrite", "true")
    assert mended.returncode == 0, mended.stderr


def test_exported_student_is_the_student(finished: Path) -> None:
    """ONNX Runtime on uint8 images, any number of them, gives PyTorch's label maps."""
    student, about = load_student(finished / "student")
    session = onnxruntime.InferenceSession(str(finished / "export/student/student.onnx"))
    assert about["resolution"] == SIZE
    (name,) = (given.name for given in session.get_inputs())
    for count in (1, 7):
        images = render_faces(4, torch.arange(count), SIZE)[0].permute(0, 2, 3, 1).contiguous()
        (theirs,) = session.run(None, {name: images.numpy()})
        assert theirs.dtype == np.uint8
        mine = Deployed(student, SIZE)(images).numpy()
        assert (theirs == mine).mean() > 0.999


def test_a_student_of_samples_made_online_is_exported_in_eight_bits_too(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "teacher", tmp_path / "teacher")
    common = ("--config", chain.config, "--run.dir", tmp_path)
    made = run_cli("student", *common, "--student.source", "online", "--student.steps", 3)
    assert made.returncode == 0, made.stderr
    made = run_cli("export", *common, "--export.int8_max_loss", 1)
    assert made.returncode == 0, made.stderr
    assert "eight bits: mIoU" in made.stdout
    assert (tmp_path / "export/student/student-int8.onnx").exists()
