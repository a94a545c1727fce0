"""Several processes, a batch in parts: the run must not notice."""

import json
from pathlib import Path

import pytest

from common.files import read_json
from tests.conftest import OWN_ANSWER, Chain, ranks, run_cli


def test_two_ranks_do_the_whole_chain_and_make_the_same_labels(
    chain: Chain, finished: Path, tmp_path: Path
) -> None:
    made = run_cli("distill", "--config", chain.config, "--run.dir", tmp_path, launcher=ranks(2))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("teacher: writing") == 1  # one process speaks
    for stage in ("teacher", "label", "student", "export", "labels_alone", "compare"):
        assert read_json(tmp_path / stage / "manifest.json")["processes"] == 2
    for shard in finished.glob("label/*.zip"):
        assert (tmp_path / "label" / shard.name).read_bytes() == shard.read_bytes()
    rows = read_json(tmp_path / "compare/comparison.json")["test_sets"]["generated"]["models"]
    one = read_json(finished / "compare/comparison.json")["test_sets"]["generated"]["models"]
    assert rows["teacher"]["miou"] == pytest.approx(one["teacher"]["miou"])
    assert rows["student"]["miou"] == pytest.approx(one["student"]["miou"], abs=0.15)


def test_two_ranks_distil_online_from_soft_labels(chain: Chain, tmp_path: Path) -> None:
    made = run_cli(
        "distill", "--config", chain.config, "--run.dir", tmp_path, "--student.source", "online",
        "--label.top_k", 8, "--label.drop_uncertain", 0.1, "--student.targets", "soft",
        "--teacher.network.members", 2, launcher=ranks(2),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "label: skipped" in made.stdout
    assert made.stdout.count("warning: label.drop_uncertain is ignored") == 1
    assert not (tmp_path / "label").exists()
    assert read_json(tmp_path / "student/manifest.json")["processes"] == 2
    assert read_json(tmp_path / "student/manifest.json")["config"]["online"]["top_k"] == 8
    assert (tmp_path / "export/student/student.onnx").exists()


@pytest.mark.parametrize("own_answer", [(), OWN_ANSWER])
def test_the_loss_curve_does_not_depend_on_the_number_of_processes(
    chain: Chain, tmp_path: Path, own_answer: tuple[str, ...]
) -> None:
    """The batch is the run's; normalisation and losses see all of it, whoever holds which part."""
    curves = []
    for launcher in ((), ranks(2)):
        run = tmp_path / f"{bool(launcher)}"
        made = run_cli(
            "student", "--config", chain.config, "--run.dir", run, "--student.source", "faces",
            "--student.faces", 40, "--student.precision", "no", "--student.val_every", 1,
            "--student.network.encoder", "mobilenetv4_conv_small_050",
            "--student.network.levels", 3,  # leaves layers behind it unused
            *own_answer, launcher=launcher,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        lines = (run / "student/metrics.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
        assert read_json(run / "student/manifest.json")["processes"] == (2 if launcher else 1)
    assert len(curves[0]) == 12
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_a_batch_taken_in_parts_makes_the_same_steps(chain: Chain, tmp_path: Path) -> None:
    """A batch of two epochs of the same four images: either half is like the whole."""
    still = [f"--student.augmentation.{kind}=0" for kind in (
        "flip", "shift", "scale", "rotate", "colour", "hue", "blur", "noise", "grey",
    )]  # fmt: skip
    curves = []
    for parts in (1, 2):
        made = run_cli(
            "student", "--config", chain.config, "--run.dir", tmp_path / str(parts), *still,
            "--student.source", "faces", "--student.faces", 12, "--student.val_every", 1,
            "--student.precision", "no", "--student.grad_accumulation_steps", parts,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        lines = (tmp_path / str(parts) / "student/metrics.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert curves[0][-1] < curves[0][0]


def test_two_ranks_train_the_generator(chain: Chain, tmp_path: Path) -> None:
    made = run_cli("generator", "--config", chain.config, "--run.dir", tmp_path, launcher=ranks(2))
    assert made.returncode == 0, made.stderr
    assert read_json(tmp_path / "generator/manifest.json")["processes"] == 2
