import shutil

import onnx
import pytest
import timm
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.files import write_json
from student.export.deploy import Deployed
from student.export.graph import run_onnx, run_pt2, to_onnx, trace, write_pt2
from student.network import ARCHITECTURE, WEIGHTS, NetworkConfig, Student, describe, load_student


def compiled(student):
    torch.compiler.reset()
    return torch.compile(student, backend="aot_eager", fullgraph=True)


class EncoderContract:
    """What every family of encoders must do. Subclasses name one of it."""

    config: NetworkConfig

    @pytest.fixture(scope="class")
    @classmethod
    def student(cls):
        torch.manual_seed(0)
        return Student(cls.config, 5).eval()

    @pytest.mark.parametrize("size", [(64, 64), (32, 96), (37, 53), (100, 64)])
    def test_logits_at_the_pictures_size(self, student, size):
        with torch.no_grad():
            logits = student(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))
        assert logits.shape == (1, 5, *size)
        assert logits.isfinite().all()

    def test_pictures_of_a_batch_do_not_mix(self, student):
        pictures = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8)
        with torch.no_grad():
            together, alone = student(pictures), student(pictures[[1]])
        assert torch.allclose(together[1], alone[0], atol=1e-4)

    def test_every_parameter_learns(self):
        student = Student(self.config, 4)
        student(torch.rand(2, 3, 64, 64) * 255).square().mean().backward()
        silent = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
        assert silent == []  # several processes would wait for their gradients

    def test_saved_and_loaded_it_is_the_same(self, student, tmp_path):
        weights = {k: v.contiguous() for k, v in student.state_dict().items()}
        save_file(weights, tmp_path / WEIGHTS)
        write_json(tmp_path / ARCHITECTURE, describe(self.config, tuple("abcde"), 64))
        loaded, about = load_student(tmp_path)
        pictures = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.equal(loaded(pictures), student(pictures))
        assert about["resolution"] == 64

    def test_compiled_it_is_the_same(self, student):
        """Captured as one graph; the backend that needs no C++ compiler."""
        pictures = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(compiled(student)(pictures), student(pictures), atol=1e-4)

    def test_deployed_it_is_the_same_at_any_size(self, student, tmp_path):
        """As the stage `export` deploys it, for every runtime."""
        deployed = Deployed(student, 64)
        program = trace(deployed)
        onnx.save(to_onnx(program, deployed), tmp_path / "s.onnx")
        write_pt2(program, tmp_path / "s.pt2")
        files = (run_onnx(tmp_path / "s.onnx"), run_pt2(tmp_path / "s.pt2"))
        for size in ((3, 64, 64), (1, 64, 64), (1, 1, 90), (2, 131, 70)):
            pictures = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
            mine = deployed(pictures)
            for run in files:
                assert (run(pictures) == mine).double().mean() > 0.999


class TestRegNet(EncoderContract):
    config = NetworkConfig("regnetx_002", levels=3, decoder_width=8, detail_channels=4)

    def test_compiled_it_takes_other_sizes_too(self, student):
        fast = compiled(student)
        with torch.no_grad():
            for size in ((64, 64), (40, 72)):
                pictures = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
                assert torch.allclose(fast(pictures), student(pictures), atol=1e-4)


class TestHalfSize(EncoderContract):
    """The decoder ends at half of the picture's size."""

    config = NetworkConfig(
        "regnetx_002", levels=3, decoder_width=8, detail_channels=4, output_stride=2
    )


class TestMobileNet(EncoderContract):
    config = NetworkConfig(
        "mobilenetv4_conv_small_050", levels=3, decoder_width=8, detail_channels=4
    )


class TestConvNeXt(EncoderContract):
    config = NetworkConfig(
        "convnext_atto", levels=3, decoder_width=8, detail_channels=4, output_stride=4
    )


class TestVisionTransformer(EncoderContract):
    config = NetworkConfig("vit_tiny_patch16_224", levels=2, decoder_width=8, detail_channels=4)


class TestSwin(EncoderContract):
    """Its maps come channels-last."""

    config = NetworkConfig(
        "swin_tiny_patch4_window7_224", levels=2, decoder_width=8, detail_channels=4
    )


def test_levels_of_a_plain_transformer_reach_its_last_block():
    student = Student(NetworkConfig("vit_tiny_patch16_224", levels=4, decoder_width=8), 2)
    assert list(student.encoder.out_indices) == [2, 5, 8, 11]


@torch.no_grad()
def test_a_student_may_be_built_where_nothing_learns():
    assert Student(TestRegNet.config, 4).encoder is not None


@pytest.mark.parametrize("encoder", ["levit_128", "hrnet_w18_small", "inception_v3"])
def test_encoders_of_one_size_or_of_odd_maps_are_refused(encoder):
    with pytest.raises(UserError, match="cannot be built for pictures of any size"):
        Student(NetworkConfig(encoder, levels=2), 4)


@pytest.mark.parametrize("output_stride", [0, 3, 4])
def test_an_output_stride_between_the_encoders_is_refused(output_stride):
    with pytest.raises(UserError, match=r"student\.network\.output_stride is .*choose a divisor"):
        Student(NetworkConfig("regnetx_002", levels=3, output_stride=output_stride), 4)


def test_unknown_encoders_and_levels_are_named():
    with pytest.raises(UserError, match=r"student\.network\.encoder 'resnet_of_mars'"):
        Student(NetworkConfig("resnet_of_mars"), 4)
    with pytest.raises(UserError, match=r"lower student\.network\.levels"):
        Student(NetworkConfig("resnet10t", levels=9), 4)


def test_pretrained_weights_without_a_network_end_with_a_remedy(monkeypatch, tmp_path):
    assert timm.is_model("resnet10t")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"set student\.network\.pretrained false"):
        Student(NetworkConfig("resnet10t", pretrained=True, levels=2), 4)


@pytest.mark.parametrize("encoder", ["timm/resnet50", "s3:resnet50", "local-dir:nowhere"])
def test_places_that_hold_no_encoder_are_named(encoder):
    with pytest.raises(UserError, match=rf"student\.network\.encoder '{encoder}'"):
        Student(NetworkConfig(encoder), 4)


def test_weights_in_a_folder_of_ones_own_are_taken_and_not_needed_again(tmp_path):
    """An exported student is loaded where that folder is not."""
    given = timm.create_model("resnet10t")
    timm.models.save_for_hf(given, tmp_path / "given")
    config = NetworkConfig(
        f"local-dir:{tmp_path / 'given'}", pretrained=True, levels=2, decoder_width=8
    )
    student = Student(config, 5).eval()
    assert torch.equal(student.encoder.conv1[0].weight, given.conv1[0].weight)
    shutil.rmtree(tmp_path / "given")
    save_file(student.state_dict(), tmp_path / WEIGHTS)
    write_json(tmp_path / ARCHITECTURE, describe(student.config, tuple("abcde"), 64))
    loaded, about = load_student(tmp_path)
    assert about["network"]["encoder"] == "resnet10t"
    pictures = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(loaded(pictures), student(pictures))


@pytest.mark.parametrize("changes", [{"stem_width": 16}, {"act_layer": "silu"}])
def test_changed_encoders_of_a_folder_are_refused(tmp_path, changes):
    """Without the folder nobody could build them again."""
    changed = timm.create_model("resnet10t", **changes)
    timm.models.save_for_hf(changed, tmp_path, model_args=changes)
    with pytest.raises(UserError, match="the weights are of a changed resnet10t"):
        Student(NetworkConfig(f"local-dir:{tmp_path}", pretrained=True, levels=2), 5)
