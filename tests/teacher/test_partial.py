"""Teachers from partial masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import read_json, write_json
from datasets.annotations import INDEX, STROKES, read_annotated
from datasets.labels import LabelSet, read_mask, write_mask
from teacher.partial import fill_in, is_partial, tell_pixels
from tests.conftest import SIZE, Chain, command_line, killed_at, run_cli

NOTHING = 255


@pytest.fixture(scope="module")
def strokes(chain: Chain, labels: LabelSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain's annotated samples, of each of which one class is known on a few pixels."""
    folder = tmp_path_factory.mktemp("partial") / "annotated"
    shutil.copytree(chain.folder / "train", folder)
    index = read_json(folder / INDEX)
    write_json(folder / INDEX, index | {"origin": index["origin"] | {STROKES: True}})
    for i in range(index["count"]):
        path = folder / "masks" / f"{i:04d}.png"
        mask = read_mask(path, labels, (SIZE, SIZE), is_ours=True)
        known = np.full_like(mask, NOTHING)
        known[mask == i] = i
        write_mask(path, known, labels)
    return folder


def test_what_is_known_stays_and_the_rest_counts_as_it_is_sure() -> None:
    mask = torch.tensor([[[1, NOTHING], [NOTHING, 0]]], dtype=torch.uint8)
    answer = torch.tensor([[0.2, 0.8, 0.9, 0.5], [0.8, 0.2, 0.1, 0.5]]).view(1, 2, 2, 2)
    filled, weight = fill_in(mask, answer, NOTHING)
    assert filled.tolist() == [[[1, 0], [0, 0]]]
    assert torch.allclose(weight, torch.tensor([[[1.0, 0.32], [0.405, 1.0]]]))


def test_masks_are_partial_where_more_than_a_tenth_of_their_pixels_have_no_class(
    labels: LabelSet,
) -> None:
    masks = torch.zeros(2, 4, 4, dtype=torch.uint8)
    masks[0, 0, :3] = NOTHING
    assert not is_partial(masks, NOTHING)
    masks[0, 0] = NOTHING  # such as borders that somebody left out, around regions that were filled
    assert is_partial(masks, NOTHING)
    masks[:, 1:] = NOTHING
    assert is_partial(masks, NOTHING)
    assert "2 samples with a class on 12.5% of their pixels: background 4, skin 0" in tell_pixels(
        masks, labels
    )


def test_a_mask_of_strokes_may_show_one_class_and_any_other_may_not(
    strokes: Path, chain: Chain, labels: LabelSet, tmp_path: Path
) -> None:
    source = read_json(strokes / INDEX)["generator"]
    _, masks = read_annotated(strokes, labels, source)
    assert is_partial(masks, NOTHING) and masks.unique().tolist() == [0, 1, 2, NOTHING]
    plain = shutil.copytree(strokes, tmp_path / "plain")
    write_json(plain / INDEX, read_json(chain.folder / "train" / INDEX))
    with pytest.raises(UserError, match="alone, and all other pixels are ignored"):
        read_annotated(plain, labels, source)
    single = shutil.copytree(strokes, tmp_path / "single")
    for name in ("0001", "0002"):
        shutil.copy(single / "masks/0000.png", single / f"masks/{name}.png")
    with pytest.raises(UserError, match="background alone; draw a second class"):
        read_annotated(single, labels, source)


def test_the_whole_chain_runs_on_strokes(strokes: Path, chain: Chain, tmp_path: Path) -> None:
    options = (
        "--config",
        chain.config,
        "--sources.annotations",
        strokes,
        "--run.dir",
        tmp_path / "run",
    )
    made = run_cli("distill", *options, "--teacher.answered_samples", 6)
    assert made.returncode == 0, made.stderr
    assert "teacher: learns from 3 samples with a class on" in made.stdout
    again = run_cli("distill", *options, "--teacher.answered_samples", 6)
    assert "teacher: done already" in again.stdout
    # The teacher knows the classes that were drawn and no others.
    figures = read_json(tmp_path / "run/teacher/manifest.json")["figures"]["generated"]
    assert {name for name, iou in figures["iou"].items() if iou} <= {"background", "skin", "hair"}


def test_a_killed_teacher_of_strokes_ends_with_the_same_bytes(
    strokes: Path, chain: Chain, tmp_path: Path
) -> None:
    options = ("teacher", "--config", chain.config, "--sources.annotations", strokes,
               "--teacher.answered_samples", 6, "--run.dir")  # fmt: skip
    assert run_cli(*options, tmp_path / "whole").returncode == 0
    killed_at("teacher/checkpoints/*", tmp_path / "cut", command_line(*options, tmp_path / "cut"))
    assert run_cli(*options, tmp_path / "cut").returncode == 0
    name = "teacher/teacher.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
