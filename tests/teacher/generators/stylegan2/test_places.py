"""Where in a file people keep rosinality's generator."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from teacher.generators.stylegan2.formats import read_checkpoint
from tests.teacher.generators.stylegan2.foreign import rosinality_tensors, write_rosinality
from tests.teacher.generators.stylegan2.original import Tensors, make_tensors


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return make_tensors()


PLACES: dict[str, Callable[[Tensors, Tensor], object]] = {
    "bare": lambda state, mean: state,
    "g alone": lambda state, mean: {"g": state, "latent_avg": mean},
    "parallel": lambda state, mean: {
        "g_ema": {f"module.{k}": v for k, v in state.items()}, "latent_avg": mean,
    },
    "pSp": lambda state, mean: {
        "state_dict": {"encoder.input_layer.0.weight": torch.ones(3)}
        | {f"decoder.{k}": v for k, v in state.items()},
        "latent_avg": mean.repeat(10, 1), "opts": argparse.Namespace(output_size=64),
    },
    "training": lambda state, mean: {"g": {k: v + 1 for k, v in state.items()}, "g_ema": state},
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_where_people_keep_rosinalitys_generator(
    place: str, tensors: Tensors, tmp_path: Path
) -> None:
    known = read_checkpoint(write_rosinality(tmp_path / "known.pt", tensors))
    mean = tensors["mapping.w_avg"]
    torch.save(PLACES[place](rosinality_tensors(tensors), mean), tmp_path / "file.pt")
    found = read_checkpoint(tmp_path / "file.pt")
    for name, tensor in known.weights.items():
        if name != "w_mean" or place not in ("bare", "training"):
            assert torch.equal(found.weights[name], tensor), name
    if place in ("bare", "training"):
        assert any("mean of w" in note for note in found.notes)


def test_a_mean_for_each_layer_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    content = {"g_ema": rosinality_tensors(tensors), "latent_avg": torch.randn(10, 12)}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="mean of w for each layer"):
        read_checkpoint(tmp_path / "a.pt")
