import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from common.confusion import confusion_of_each, iou_figures, mean_iou
from evaluation.measures import boundary_iou, paired_bootstrap


def blobs(count: int, seed: int) -> torch.Tensor:
    coarse = torch.rand(count, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (40, 30), mode="bilinear").argmax(1)


def test_boundary_iou_agrees_with_erosion():
    """Edges made by scipy, picture by picture and class by class."""
    truth, said = blobs(3, 0), blobs(3, 1)
    said = torch.where(torch.rand(3, 40, 30) < 0.8, truth, said)
    truth[0, :5] = 255
    reach = round(0.02 * math.hypot(40, 30))
    shared, either = np.zeros(4), np.zeros(4)
    for one, other in zip(truth.numpy(), said.numpy(), strict=True):
        for c in range(4):
            edges = []
            for mask in (one, other):
                mask = (mask == c) & (one != 255)
                edges.append(mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=reach))
            shared[c] += (edges[0] & edges[1]).sum()
            either[c] += (edges[0] | edges[1]).sum()
    assert boundary_iou(truth, said, 4).tolist() == pytest.approx((shared / either).tolist())


def test_a_class_that_the_truth_has_not_has_no_edge():
    truth = torch.zeros(1, 8, 8, dtype=torch.uint8)
    edges = boundary_iou(truth, truth, 2)
    assert edges[0] == 1 and edges[1].isnan()


def test_mean_iou_is_that_of_the_figures():
    truth, said = blobs(6, 2), blobs(6, 3)
    truth[truth == 3] = 255  # an absent class
    each = confusion_of_each(truth, said, 4)
    assert mean_iou(each.sum(0)).item() == pytest.approx(iou_figures(each.sum(0), "abcd")["miou"])
    assert mean_iou(each)[2].item() == pytest.approx(iou_figures(each[2], "abcd")["miou"])


def right(share: torch.Tensor) -> torch.Tensor:
    """Confusion matrices of pictures with a thousand pixels of each of two classes."""
    hit = (1000 * share).round().long()
    return torch.stack([hit, 1000 - hit, 1000 - hit, hit], 1).view(-1, 2, 2)


def test_the_interval_of_a_difference_has_the_width_that_theory_gives():
    torch.manual_seed(0)
    base = 0.6 + 0.1 * torch.rand(200)
    gain = 0.05 + 0.04 * torch.randn(200)  # of each picture
    found = paired_bootstrap(right(base + gain), right(base))
    # IoU = h / (2 - h), of which the slope is 2 / (2 - h)^2.
    slope = 2 / (2 - (base.mean() + 0.025)) ** 2
    width = (2 * 1.96 * gain.std() / math.sqrt(200) * slope).item()
    assert found.low < found.value < found.high
    assert found.value == pytest.approx((slope * gain.mean()).item(), rel=0.05)
    assert found.high - found.low == pytest.approx(width, rel=0.15)
    # Pictures differ far more than their gains: unpaired, nothing could be said.
    assert found.low > 0


def test_equal_models_have_no_difference():
    same = right(torch.rand(20))
    found = paired_bootstrap(same, same)
    assert (found.value, found.low, found.high) == (0, 0, 0)
