"""A batch of one image whose coarsest map has one place: refused before the first step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from common.errors import UserError
from student.base import NetworkConfig
from student.network import build_student
from student.normalisation import check_batch, check_normalised
from student.recipe import StudentStage
from tests.conftest import Chain, ranks, run_cli

CPU = torch.device("cpu")
DEEP = NetworkConfig("resnet10t", levels=5, decoder_width=8, detail_channels=4)
RECIPE = StudentStage(network=DEEP, batch_size=1)


def network(levels: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return build_student(replace(DEEP, levels=levels), 3)


def test_one_value_is_refused_exactly_where_pytorch_does() -> None:
    refused = set()
    for levels, side, batch in (
        (5, 32, 1),
        (5, 33, 1),
        (4, 32, 1),
        (4, 16, 1),
        (5, 32, 2),
        (3, 16, 1),
    ):
        made = network(levels)
        recipe = replace(RECIPE, batch_size=batch)
        try:
            check_normalised(made, recipe, side, 1, CPU)
            allowed = True
        except UserError as error:
            said, allowed = str(error), False
            refused.add((levels, side, batch))
        for words in ("student.batch_size 1 gives", "batch_size above 1", "levels", f"{side} px"):
            assert allowed or words in said
        assert made.training
        images = torch.zeros(batch, 3, side, side)
        if allowed:
            made(images)
        else:
            with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
                made(images)
    assert refused == {(5, 32, 1), (4, 16, 1)}


def test_parts_and_processes_count() -> None:
    parts = replace(RECIPE, batch_size=4, grad_accumulation_steps=4)
    with pytest.raises(UserError, match="above 4"):
        check_normalised(network(), parts, 32, 1, CPU)
    check_normalised(network(), replace(parts, batch_size=8), 32, 1, CPU)
    halves = replace(RECIPE, batch_size=1, half_size_share=0.5)
    with pytest.raises(UserError, match=r"an image of 32 px \(half the size"):
        check_normalised(network(), halves, 64, 1, CPU)
    # Two processes see two images; the layers that are not shared see one of them each.
    check_normalised(network(), replace(RECIPE, batch_size=2), 32, 2, CPU)
    alone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 3))
    with pytest.raises(UserError, match="the map of 2 has one place"):
        check_normalised(alone, replace(RECIPE, batch_size=2), 32, 2, CPU)


@pytest.mark.parametrize(
    ("batch_size", "processes", "parts"), [(1, 2, 1), (3, 2, 1), (8, 3, 1), (2, 1, 4)]
)
def test_batches_that_leave_a_process_with_less_are_refused(
    batch_size: int, processes: int, parts: int
) -> None:
    recipe = replace(RECIPE, batch_size=batch_size, grad_accumulation_steps=parts)
    with pytest.raises(
        UserError, match=rf"batch_size is {batch_size}, not divisible by {processes} "
    ):
        check_batch(recipe, processes)


_OPTIONS = (
    "--student.source", "faces", "--student.faces", 12, "--student.resolution", 32,
    "--student.steps", 2, "--student.val_images", 4, "--student.val_every", 2, "--student.workers", 0,
    "--student.network.encoder", "resnet10t", "--student.network.levels", 5,
    "--student.network.decoder_width", 8,
)  # fmt: skip


def test_a_run_is_refused_before_it_begins(chain: Chain, tmp_path: Path) -> None:
    """`distill`, too, before the stages that come first."""
    options = ("--config", chain.config, *_OPTIONS, "--run.dir", tmp_path)
    for command in ("student", "distill"):
        made = run_cli(command, *options, "--student.batch_size", 1)
        assert made.returncode == 2
        assert "batch normalisation a single value" in made.stderr
        assert made.stderr.count("\n") == 1
        assert [*tmp_path.iterdir()] == []
    shallow = ("--student.network.levels", 4, "--student.half_size_share", 0)
    made = run_cli("student", *options, *shallow, "--student.batch_size", 1)
    assert made.returncode == 0, made.stderr


def test_two_processes_share_what_one_could_not_normalise(tmp_path: Path) -> None:
    made = run_cli(
        "student", *_OPTIONS, "--run.dir", tmp_path, "--student.batch_size", 2, launcher=ranks(2)
    )
    assert made.returncode == 0, made.stderr
    weights = build_student(DEEP, 8).state_dict()
    found = load_file(tmp_path / "student/last.safetensors")
    assert {*found} >= {name for name in weights if "running_var" in name}
    assert all(t.isfinite().all() for t in found.values())
