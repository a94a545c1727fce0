import math

import pytest
import torch

from teacher.generators.stylegan2.ada import Adaptation, augment


def random_images(batch: int = 64, size: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(batch, 3, size, size) * 2 - 1


def test_nothing_at_probability_zero() -> None:
    images = random_images()
    assert augment(images, 0.0) is images


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_stated_share_stays_untouched(p: float) -> None:
    """Fifteen draws leave an image alone: eleven of probability p, two rotations that share one, flips."""
    images = random_images(1500)
    out = augment(images, p)
    same = (out - images).abs().flatten(1).amax(1) < 1e-4
    # Flips and right angles change nothing in half and a quarter of the cases.
    chance = (1 - p / 2) * (1 - 0.75 * p) * (1 - p) ** 2  # blitting
    chance *= (1 - p) ** 3 * (1 - p)  # geometry: size, stretch, shift; at least one rotation
    chance *= (1 - p) ** 4 * (1 - p / 2)  # colour
    spread = 3 * math.sqrt(chance / len(images))
    assert same.float().mean().item() == pytest.approx(chance, abs=spread + 0.01)


def test_everything_moves_at_full_probability() -> None:
    images = random_images()
    out = augment(images, 1.0)
    assert out.shape == images.shape and torch.isfinite(out).all()
    assert ((out - images).abs().flatten(1).amax(1) > 1e-3).all()


def test_gradients_reach_the_generator() -> None:
    images = random_images(8).requires_grad_(True)
    augment(images, 0.8).sum().backward()
    assert images.grad is not None and (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_a_grey_image_stays_grey_but_for_brightness() -> None:
    """Hue, saturation and luma act about the grey axis."""
    images = torch.full((200, 3, 8, 8), 0.3)
    out = augment(images, 0.7)
    assert (out.amax(1) - out.amin(1)).abs().max() < 1e-4
    assert out.std() > 0.1


def test_strength_follows_the_discriminator() -> None:
    adaptation = Adaptation(0.6, 1000)
    for _ in range(5):
        adaptation.follow(0.9, 100)
    assert adaptation.p == pytest.approx(0.5)
    adaptation.follow(0.2, 100)
    assert adaptation.p == pytest.approx(0.4)
    for _ in range(20):
        adaptation.follow(0.9, 100)
    assert adaptation.p == 1.0
