import pytest
import torch
from torch import Tensor

from common.frechet import Moments, feature_moments, frechet_distance
from datasets.faces import render_faces
from student.base import NetworkConfig
from student.network import build_student


def test_distance_of_known_gaussians() -> None:
    """Between commuting covariances: |m1 - m2|^2 + sum of (s1 - s2)^2."""
    one = (torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0]).double()))
    two = (torch.ones(3).double(), torch.diag(torch.tensor([4.0, 4.0, 1.0]).double()))
    assert frechet_distance(one, two) == pytest.approx(3 + 1 + 0 + 4)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_rendered_faces_are_nearer_to_each_other_than_to_noise() -> None:
    torch.manual_seed(0)
    student = build_student(
        NetworkConfig("resnet10t", levels=2, decoder_width=8, detail_channels=4), 8
    ).eval()

    def embed(images: Tensor) -> Tensor:
        return student.encoder((images.float() - student.mean) / student.std)[-1].mean((2, 3))

    def moments(seed: int) -> Moments:
        return feature_moments(embed, render_faces(seed, torch.arange(200), 32)[0].split(50))

    noise = torch.randint(0, 256, (200, 3, 32, 32), dtype=torch.uint8)
    far = frechet_distance(moments(1), feature_moments(embed, noise.split(50)))
    assert frechet_distance(moments(1), moments(2)) < 0.1 * far
