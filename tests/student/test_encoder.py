"""Encoders that students may and may not have."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from common.errors import UserError
from common.files import write_json
from common.stage_folder import StageFolder
from student.base import NetworkConfig
from student.fit import fit_student
from student.network import ARCHITECTURE, WEIGHTS, build_student, load_student, student_json
from student.recipe import StudentStage, StudentTraining
from tests.conftest import LABELS


def test_levels_of_a_plain_transformer_reach_its_last_block() -> None:
    student = build_student(NetworkConfig("vit_tiny_patch16_224", levels=4, decoder_width=8), 2)
    assert list(student.encoder.out_indices) == [2, 5, 8, 11]  # type: ignore[arg-type]


@torch.no_grad()
def test_a_student_may_be_built_where_nothing_learns() -> None:
    config = NetworkConfig("regnetx_002", levels=3, decoder_width=8, detail_channels=4)
    assert build_student(config, 4).encoder is not None


@pytest.mark.parametrize(
    ("encoder", "levels", "side"),
    [
        ("eva02_tiny_patch14_224", 2, 70),  # the next multiple of its patch
        ("test_vit", 2, 64),
        ("vit_tiny_patch16_224", 2, 64),
        ("test_coatnet", 4, 64),  # its biases are of one grid
        ("levit_128s", 3, 64),
        ("hrnet_w18_small", 2, 64),  # its branches must meet again
        ("halonet_h1", 4, 128),  # blocks of eight places
        ("efficientformer_l1", 4, 224),  # takes no other size
        ("inception_v3", 2, 64),  # its maps lack their border
    ],
)
def test_encoders_of_one_size_are_built_for_the_images(
    encoder: str, levels: int, side: int
) -> None:
    config = NetworkConfig(encoder, levels=levels, decoder_width=8, detail_channels=4)
    student = build_student(config, 4, resolution=60).eval()
    assert student.encoder_size == side
    for size in (60, side, 33):
        assert student(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape == (1, 4, size, size)
    maps = student.maps(torch.zeros(1, 3, 60, 60))
    assert [f.shape[-1] for f in maps] == [side // stride for stride in student.strides]


def test_strided_points_of_an_image_learn_in_the_layout_of_training() -> None:
    """PyTorch's own convolution would end the process."""
    config = NetworkConfig("repvgg_a0", levels=2, decoder_width=8, detail_channels=4)
    student = build_student(config, 4, resolution=64)
    plain = timm.create_model("repvgg_a0", features_only=True, out_indices=(0, 1)).eval()
    plain.load_state_dict(student.encoder.state_dict())
    images = torch.rand(4, 3, 64, 64) * 255
    with torch.no_grad():
        known = plain((images - student.mean) / student.std)
        for f, expected in zip(student.eval().maps(images), known, strict=True):
            assert torch.allclose(f, expected, atol=1e-5)
    student.train().to(memory_format=torch.channels_last)
    for _ in range(3):
        student(images.to(memory_format=torch.channels_last)).square().mean().backward()
    weights = student.get_parameter("encoder.stem.conv_1x1.conv.weight")
    assert weights.grad is not None and weights.grad.isfinite().all()


@pytest.mark.parametrize("encoder", ["resnet10t", "swin_tiny_patch4_window7_224", "test_vit"])
def test_encoders_of_any_size_are_those_that_timm_builds(encoder: str) -> None:
    """What was trained before has the same weights, the same maps and the same `student.json`."""
    config = NetworkConfig(encoder, levels=2, decoder_width=8)
    student = build_student(config, 4, resolution=64).eval()
    options = {} if encoder == "resnet10t" else {"dynamic_img_size": True}
    blocks = (2, 5) if "vit" in encoder else (0, 1)
    plain = timm.create_model(encoder, features_only=True, out_indices=blocks, **options)
    mine = student.encoder.state_dict()
    assert [*mine] == [*plain.state_dict()]
    plain.load_state_dict(mine)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        maps = plain.eval()((images.float() - student.mean) / student.std)
        for f, known in zip(student.maps(images), maps, strict=True):
            assert torch.equal(f, known.permute(0, 3, 1, 2) if "swin" in encoder else known)
    about = student_json(student.config, tuple("abcd"), 64)
    assert about["network"] == {k: v for k, v in vars(config).items() if k != "pretrained"}


def test_position_embeddings_of_given_weights_are_resampled(tmp_path: Path) -> None:
    given = timm.create_model("test_vit")
    timm.models.save_for_hf(given, tmp_path)
    config = NetworkConfig(f"local-dir:{tmp_path}", pretrained=True, levels=2, decoder_width=8)
    student = build_student(config, 5, resolution=40)
    assert (student.config.encoder, student.encoder_size) == ("test_vit", 48)
    weights = student.encoder.state_dict()
    expected = resample_abs_pos_embed(given.pos_embed, [3, 3], num_prefix_tokens=1)
    assert torch.equal(weights["model.pos_embed"], expected)
    assert torch.equal(weights["model.blocks.0.mlp.fc1.weight"], given.blocks[0].mlp.fc1.weight)


def test_without_the_images_size_an_encoder_of_one_size_has_its_own() -> None:
    """As the feature maps of a timm model are used to measure images."""
    student = build_student(NetworkConfig("test_coatnet", levels=4, decoder_width=8), 2)
    assert student.encoder_size == timm.create_model("test_coatnet").pretrained_cfg["input_size"][1]


def test_an_encoder_that_takes_no_size_is_refused_with_a_remedy() -> None:
    with pytest.raises(
        UserError,
        match=r"'crossvit_tiny_240' with 4 levels cannot be built for images of 64 x 64 pixels "
        r"\(.*\); name another encoder",
    ):
        build_student(NetworkConfig("crossvit_tiny_240"), 4, resolution=64)
    with pytest.raises(UserError, match=r"it has 3 feature maps.*lower student\.network\.levels"):
        build_student(NetworkConfig("levit_128s"), 4, resolution=64)


def test_a_run_trains_an_encoder_at_its_images_size_and_keeps_that(tmp_path: Path) -> None:
    network = NetworkConfig("test_vit", levels=2, decoder_width=8, detail_channels=4)
    recipe = StudentStage(
        network=network, source="faces", faces=12, resolution=40, steps=2, batch_size=4,
        val_images=4, val_every=1, workers=0,
    )  # fmt: skip
    config = StudentTraining(recipe)
    folder = StageFolder(tmp_path / "student", "student", config, {"labels": LABELS})
    folder.begin()
    folder.finish(fit_student(config, folder))
    student, about = load_student(folder.path)
    assert about["network"]["encoder_size"] == student.encoder_size == 48
    assert student(torch.zeros(1, 3, 40, 40, dtype=torch.uint8)).shape == (1, 8, 40, 40)


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
