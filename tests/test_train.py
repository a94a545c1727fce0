"""The command line as people use it: whole runs in processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from common.files import read_json
from datasets.faces import render_faces
from student.export.deploy import Deployed
from student.network import load_student
from tests.conftest import ROOT, SIZE, draw_masks, environment, ranks, run_cli
from train import main

STAGES = ("teacher", "label", "student", "export", "labels_alone", "compare")


def figures(run: Path) -> dict[str, object]:
    """Everything a run measured, but its times."""
    result = read_json(run / "compare/comparison.json")["test_sets"]
    for test in result.values():
        test.pop("seconds_in_batches", None)
        for row in test["models"].values():
            del row["seconds_per_image"]
        for against in test["student_minus"].values():
            del against["times_faster"]
    return result


def _number(state: Path) -> int:
    return int(state.stem.partition("-")[2])


def test_every_stage_leaves_its_payload(finished):
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
    with Image.open(finished / "compare/comparison.png") as picture:
        assert picture.width > 200
    assert (finished / "student/metrics.jsonl").read_text().count("\n") == 4
    assert list((finished / "student/tensorboard").iterdir())


def test_running_again_does_nothing_and_says_so(chain, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    again = run_cli("distill", "--config", chain.config, "--run.dir", finished)
    assert again.returncode == 0
    assert again.stdout.count("done already") == len(STAGES)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def test_a_moved_run_stays_valid(chain, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "elsewhere")
    again = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path / "elsewhere")
    assert again.stdout.count("done already") == len(STAGES), again.stderr


def test_another_config_is_refused_by_name(chain, finished):
    other = run_cli(
        "teacher", "--config", chain.config, "--run.dir", finished, "--teacher.epochs", 7
    )
    assert other.returncode == 2
    assert "config.epochs: 6, now 7" in other.stderr
    assert "Traceback" not in other.stderr
    assert (finished / "teacher/manifest.json").exists()


def test_overwriting_the_teacher_invalidates_what_follows(chain, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    common = ("--config", chain.config, "--run.dir", run, "--teacher.epochs", 2)
    made = run_cli("teacher", *common, "--run.overwrite", "true")
    assert made.returncode == 0, made.stderr
    stale = run_cli("label", *common)
    assert stale.returncode == 2
    assert "inputs.teacher" in stale.stderr


def wait_for(pattern: str, run: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not list(run.glob(pattern)):
        assert process.poll() is None, f"ended before {pattern} appeared"
        assert time.monotonic() < end, f"{pattern} never appeared"
        time.sleep(0.01)


def test_killed_in_every_stage_it_ends_with_the_same_figures(chain, finished, tmp_path):
    run = tmp_path / "run"
    command = [
        sys.executable, str(ROOT / "train.py"), "distill", "--config", str(chain.config),
        "--run.dir", str(run),
    ]  # fmt: skip
    moments = (
        "teacher/checkpoints/state-2*", "label/shard-00001.zip", "student/checkpoints/state-6*",
        "export/config.json", "labels_alone/checkpoints/state-3*",
        "compare/checkpoints/inversion_generated/state-*",
    )  # fmt: skip
    for moment in moments:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(moment, run, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert figures(run) == figures(finished)
    for weights in ("teacher/teacher.safetensors", "student/student.safetensors"):
        mine, theirs = load_file(run / weights), load_file(finished / weights)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    for shard in finished.glob("label/*.zip"):
        assert (run / "label" / shard.name).read_bytes() == shard.read_bytes()


def test_a_killed_generator_goes_on_to_the_same_weights(chain, tmp_path):
    run = tmp_path / "run"
    command = [
        sys.executable, str(ROOT / "train.py"), "generator", "--config", str(chain.config),
        "--run.dir", str(run),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for("generator/checkpoints/state-16*", run, process)  # type: ignore[arg-type]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    made = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "resumed at image" in made.stdout
    mine = load_file(run / "generator/generator.safetensors")
    theirs = load_file(chain.generator / "generator.safetensors")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert all(torch.isfinite(value).all() for value in mine.values())


def test_ctrl_c_stops_with_one_line(chain, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable, str(ROOT / "train.py"), "student", "--config", str(chain.config),
            "--run.dir", str(tmp_path), "--student.source", "faces", "--student.faces", "100",
            "--student.steps", "100000",
        ],
        cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Tests that run in the background of a shell have inherited deafness to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for("student/checkpoints/state-3*", tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from the last checkpoint" in errors
    assert "Traceback" not in errors


def test_two_ranks_do_the_whole_chain_and_make_the_same_labels(chain, finished, tmp_path):
    made = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path, launcher=ranks(2))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("teacher: writing") == 1  # one process speaks
    for stage in STAGES:
        assert read_json(tmp_path / stage / "manifest.json")["processes"] == 2
    for shard in finished.glob("label/*.zip"):
        assert (tmp_path / "label" / shard.name).read_bytes() == shard.read_bytes()
    rows = read_json(tmp_path / "compare/comparison.json")["test_sets"]["generated"]["models"]
    one = read_json(finished / "compare/comparison.json")["test_sets"]["generated"]["models"]
    assert rows["teacher"]["miou"] == pytest.approx(one["teacher"]["miou"])
    assert rows["student"]["miou"] == pytest.approx(one["student"]["miou"], abs=0.15)


def test_a_student_resumes_exactly_past_a_damaged_checkpoint(chain, finished, tmp_path):
    """Online samples, killed, and the newest checkpoint cut short, as by a disk that gave up."""
    command = (
        "student", "--config", chain.config, "--student.source", "online", "--label.count", 10**6,
    )  # fmt: skip
    for name in ("whole", "killed"):
        shutil.copytree(finished / "teacher", tmp_path / name / "teacher")
    run = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, command), "--run.dir", str(run)],
        cwd=ROOT, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for("student/checkpoints/state-6*", run, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    states = sorted((run / "student/checkpoints").glob("state-*.safetensors"), key=_number)
    assert len(states) == 2
    states[-1].write_bytes(states[-1].read_bytes()[:-1000])
    again = run_cli(*command, "--run.dir", run)
    assert f"{states[-1].name} is damaged" in again.stdout, again.stderr
    assert f"resumed at step {_number(states[0])}" in again.stdout
    whole = run_cli(*command, "--run.dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for weights in ("student/student.safetensors", "student/last.safetensors"):
        mine, theirs = load_file(run / weights), load_file(tmp_path / "whole" / weights)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["student", "--student.sorce", "faces"], "--student.sorce"),
        (["student", "--student.steps", "many"], "student.steps"),
        (["student", "--config", "configs/none.yaml"], "none.yaml"),
        (["label", "--config", "{config}", "--run.dir", "{tmp}"], "train.py teacher"),
        (["compare", "--config", "{config}", "--run.dir", "{tmp}"], "train.py teacher"),
        (["export", "--config", "{config}", "--run.dir", "{tmp}"], "train.py student"),
        (["teacher", "--run.dir", "{tmp}", "--sources.generator", "{gen}"], "sources.annotations"),
        (
            ["teacher", "--config", "{config}", "--run.dir", "{tmp}", "--sources.labels", "no.yaml"],
            "no.yaml does not exist",
        ),
        (["generator", "--generator.batch_size", "6", "--run.dir", "{tmp}"], "multiple of four"),
        (["generator", "--generator.images", "20"], "generator.images is 20, less than a batch (32)"),
        (["generator", "--generator.save_every", "0"], "generator.save_every is 0"),
        (["teacher", "--teacher.val_every", "0"], "teacher.val_every is 0"),
        (["student", "--student.val_every", "0"], "student.val_every is 0"),
        (["inversion_encoder", "--inversion_encoder.val_every", "0"], "inversion_encoder.val_every is 0"),
        (["compare", "--compare.timed_images", "0"], "compare.timed_images is 0"),
        (
            ["student", "--config", "{config}", "--run.dir", "{tmp}", "--student.source", "faces",
             "--student.faces", "5"],
            "student.val_images is 8",
        ),
        (
            ["student", "--config", "{config}", "--run.dir", "{tmp}", "--student.source", "faces",
             "--student.targets", "soft"],
            "there are hard labels only",
        ),
        (
            ["student", "--config", "{config}", "--run.dir", "{tmp}", "--student.source", "faces",
             "--student.grad_accumulation_steps", "3"],
            "student.batch_size is 8, not divisible by 1 processes x 3 parts",
        ),
        (["label", "--config", "{config}", "--label.drop_uncertain", "1.5"], "label.drop_uncertain is 1.5"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_code_two(chain, tmp_path, arguments, message, capsys):
    names = {"config": chain.config, "tmp": tmp_path, "gen": chain.generator}
    assert main([a.format(**names) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1


def test_a_loss_that_is_no_number_stops_the_student_and_names_the_step(chain, tmp_path):
    made = run_cli(
        "student", "--config", chain.config, "--run.dir", tmp_path, "--student.source", "faces",
        "--student.faces", 20, "--student.learning_rate", 1e30, "--student.warmup_steps", 0,
    )  # fmt: skip
    assert made.returncode == 2
    assert re.search(r"the student's loss is (nan|inf) at step \d+ \(samples \[\d+, ", made.stderr)
    assert "Traceback" not in made.stderr
    assert not (tmp_path / "student/manifest.json").exists()


def test_unknown_keys_of_a_config_are_named(chain, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("student: {stepz: 5}\n")
    made = run_cli("student", "--config", config)
    assert made.returncode == 2
    assert "student.stepz" in made.stderr


def test_a_wrong_mask_stops_the_teacher_before_anything_is_made(chain, tmp_path, labels):
    shutil.copytree(chain.folder / "train", tmp_path / "train")
    Image.fromarray(np.full((SIZE, SIZE), 9, np.uint8)).save(tmp_path / "train/masks/0001.png")
    made = run_cli(
        "teacher", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotations", tmp_path / "train",
    )  # fmt: skip
    assert made.returncode == 2
    assert "masks/0001.png holds index 9" in made.stderr
    draw_masks(tmp_path / "train", labels)
    mended = run_cli(
        "teacher", "--config", chain.config, "--run.dir", tmp_path / "run",
        "--sources.annotations", tmp_path / "train", "--run.overwrite", "true",
    )  # fmt: skip
    assert mended.returncode == 0, mended.stderr


def test_a_dry_run_prints_the_plan_and_makes_nothing(chain, tmp_path):
    made = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path / "x", "--dry-run")
    assert made.returncode == 0, made.stderr
    plan, _, stages = made.stdout.rpartition("\n}\n")
    assert json.loads(plan + "\n}")["student"]["steps"] == 12
    assert f"writes {tmp_path / 'x' / 'export'}" in stages
    assert not (tmp_path / "x").exists()


def test_exported_student_is_the_student(finished):
    """ONNX Runtime on raw pictures, any number of them, gives PyTorch's label maps."""
    student, about = load_student(finished / "student")
    session = onnxruntime.InferenceSession(str(finished / "export/student/student.onnx"))
    assert about["resolution"] == SIZE
    for count in (1, 7):
        pictures, _ = render_faces(4, torch.arange(count), SIZE)
        pictures = pictures.permute(0, 2, 3, 1).contiguous()
        (theirs,) = session.run(None, {"pictures": pictures.numpy()})
        assert theirs.dtype == np.uint8
        mine = Deployed(student, SIZE)(pictures).numpy()
        assert (theirs == mine).mean() > 0.999


def test_a_student_of_samples_made_online_is_exported_in_eight_bits_too(chain, finished, tmp_path):
    shutil.copytree(finished / "teacher", tmp_path / "teacher")
    common = ("--config", chain.config, "--run.dir", tmp_path)
    made = run_cli("student", *common, "--student.source", "online", "--student.steps", 3)
    assert made.returncode == 0, made.stderr
    made = run_cli("export", *common, "--export.int8_max_loss", 1)
    assert made.returncode == 0, made.stderr
    assert "eight bits: mIoU" in made.stdout
    assert (tmp_path / "export/student/student-int8.onnx").exists()


def test_predict_needs_neither_torch_nor_timm(finished, tmp_path):
    pictures, _ = render_faces(4, torch.arange(2), 40)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_text("no picture")
    code = (
        "import sys; from student.predict import main; code = main(sys.argv[1:]);"
        "print([m for m in ('torch', 'timm', 'albumentations') if m in sys.modules]); sys.exit(code)"
    )
    files = [str(tmp_path / name) for name in ("0.png", "1.png", "broken.png")]
    made = subprocess.run(
        [sys.executable, "-c", code, *files, "--model", str(finished / "export/student/student.onnx"),
         "--out", str(tmp_path / "masks"), "--overlay"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 1  # one picture was skipped
    assert "broken.png" in made.stderr
    assert made.stdout.splitlines()[-1] == "[]"
    with Image.open(tmp_path / "masks/1.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (40, 40)
    with Image.open(tmp_path / "masks/1_overlay.png") as overlay:
        assert overlay.mode == "RGB"


def test_predict_without_a_model_is_one_sentence(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "student.predict", "x.png", "--model", str(tmp_path / "no.onnx"),
         "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 2
    assert "run the stage export" in made.stderr
    assert "Traceback" not in made.stderr
