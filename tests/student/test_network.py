import pytest
import timm
import torch

from datasets.artifacts import UserError
from student.network import NetworkConfig, Student

TINY = NetworkConfig("resnet10t", levels=2, width=8, detail=4)


@pytest.mark.parametrize("encoder", ["regnetx_002", "mobilenetv4_conv_small_050", "convnext_atto"])
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_any_encoder_gives_logits_at_the_pictures_size(encoder, size):
    student = Student(NetworkConfig(encoder, levels=3, width=16, detail=4), 5).eval()
    with torch.no_grad():
        logits = student(torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8))
    assert logits.shape == (2, 5, *size)


def test_odd_sizes():
    student = Student(TINY, 4).eval()
    with torch.no_grad():
        assert student(torch.zeros(1, 3, 37, 53)).shape == (1, 4, 37, 53)


def test_every_parameter_learns():
    student = Student(TINY, 4)
    student(torch.rand(2, 3, 32, 32) * 255).square().mean().backward()
    silent = [n for n, p in student.named_parameters() if p.grad is None]
    assert silent == []


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
