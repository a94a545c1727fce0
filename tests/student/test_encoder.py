"""Encoders that students may and may not have."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.files import write_json
from student.base import NetworkConfig
from student.network import ARCHITECTURE, WEIGHTS, build_student, load_student, student_json


def test_levels_of_a_plain_transformer_reach_its_last_block() -> None:
    student = build_student(NetworkConfig("vit_tiny_patch16_224", levels=4, decoder_width=8), 2)
    assert list(student.encoder.out_indices) == [2, 5, 8, 11]  # type: ignore[arg-type]


@torch.no_grad()
def test_a_student_may_be_built_where_nothing_learns() -> None:
    config = NetworkConfig("regnetx_002", levels=3, decoder_width=8, detail_channels=4)
    assert build_student(config, 4).encoder is not None


@pytest.mark.parametrize("encoder", ["levit_128", "hrnet_w18_small", "inception_v3"])
def test_encoders_of_one_size_or_of_odd_maps_are_refused(encoder: str) -> None:
    with pytest.raises(UserError, match="cannot be built for images of any size"):
        build_student(NetworkConfig(encoder, levels=2), 4)


def test_unknown_encoders_and_levels_are_named() -> None:
    with pytest.raises(UserError, match=r"student\.network\.encoder 'resnet_of_mars'"):
        build_student(NetworkConfig("resnet_of_mars"), 4)
    with pytest.raises(UserError, match=r"lower student\.network\.levels"):
        build_student(NetworkConfig("resnet10t", levels=9), 4)


def test_pretrained_weights_without_a_network_end_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert timm.is_model("resnet10t")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"set student\.network\.pretrained false"):
        build_student(NetworkConfig("resnet10t", pretrained=True, levels=2), 4)


@pytest.mark.parametrize("encoder", ["timm/resnet50", "s3:resnet50", "local-dir:nowhere"])
def test_places_that_hold_no_encoder_are_named(encoder: str) -> None:
    with pytest.raises(UserError, match=rf"student\.network\.encoder '{encoder}'"):
        build_student(NetworkConfig(encoder), 4)


def test_weights_in_a_folder_of_ones_own_are_taken_and_not_needed_again(tmp_path: Path) -> None:
    """An exported student is loaded where that folder is not."""
    given = timm.create_model("resnet10t")
    timm.models.save_for_hf(given, tmp_path / "given")
    config = NetworkConfig(
        f"local-dir:{tmp_path / 'given'}", pretrained=True, levels=2, decoder_width=8
    )
    student = build_student(config, 5).eval()
    weights = student.state_dict()
    assert torch.equal(weights["encoder.conv1.0.weight"], given.conv1[0].weight)
    shutil.rmtree(tmp_path / "given")
    save_file(weights, tmp_path / WEIGHTS)
    write_json(tmp_path / ARCHITECTURE, student_json(student.config, tuple("abcde"), 64))
    loaded, about = load_student(tmp_path)
    assert about["network"]["encoder"] == "resnet10t"
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(loaded(images), student(images))


@pytest.mark.parametrize("changes", [{"stem_width": 16}, {"act_layer": "silu"}])
def test_changed_encoders_of_a_folder_are_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Without the folder nobody could build them again."""
    changed = timm.create_model("resnet10t", **changes)
    timm.models.save_for_hf(changed, tmp_path, model_args=changes)
    with pytest.raises(UserError, match="the weights are of a changed resnet10t"):
        build_student(NetworkConfig(f"local-dir:{tmp_path}", pretrained=True, levels=2), 5)
