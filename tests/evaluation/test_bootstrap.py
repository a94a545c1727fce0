"""Confidence intervals of differences in mIoU."""

import math

import pytest
import torch

from evaluation.bootstrap import paired_bootstrap


def with_accuracy(share: torch.Tensor) -> torch.Tensor:
    """Confusion matrices of images with a thousand pixels of each of two classes."""
    hit = (1000 * share).round().long()
    return torch.stack([hit, 1000 - hit, 1000 - hit, hit], 1).view(-1, 2, 2)


def test_the_interval_of_a_difference_has_the_width_that_theory_gives() -> None:
    torch.manual_seed(0)
    base = 0.6 + 0.1 * torch.rand(200)
    gain = 0.05 + 0.04 * torch.randn(200)  # of each image
    found = paired_bootstrap(with_accuracy(base + gain), with_accuracy(base))
    # IoU = h / (2 - h), of which the slope is 2 / (2 - h)^2.
    slope = 2 / (2 - (base.mean() + 0.025)) ** 2
    width = (2 * 1.96 * gain.std() / math.sqrt(200) * slope).item()
    assert found.low < found.value < found.high
    assert found.value == pytest.approx((slope * gain.mean()).item(), rel=0.05)
    assert found.high - found.low == pytest.approx(width, rel=0.15)
    # Images differ far more than their gains: an unpaired interval would hold zero.
    assert found.low > 0


def test_equal_models_have_no_difference() -> None:
    same = with_accuracy(torch.rand(20))
    found = paired_bootstrap(same, same)
    assert (found.value, found.low, found.high) == (0, 0, 0)
