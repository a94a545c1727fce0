import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from evaluation.metrics.boundary_miou import EdgePixels, count_edge_pixels, measure
from tests.evaluation.metrics.masks import blobs, segmentation


def summed(pixels: EdgePixels) -> EdgePixels:
    return EdgePixels(*(column.sum(0) for column in pixels))


def test_boundary_iou_agrees_with_erosion() -> None:
    """Edges made by scipy, image by image and class by class."""
    truth, masks = blobs(3, 0), blobs(3, 1)
    masks = torch.where(torch.rand(3, 40, 30) < 0.8, truth, masks)
    truth[0, :5] = 255
    reach = round(0.02 * math.hypot(40, 30))
    intersection, union = np.zeros((3, 4)), np.zeros((3, 4))
    for i, (true, mask) in enumerate(zip(truth.numpy(), masks.numpy(), strict=True)):
        for c in range(4):
            edges = []
            for side in (true, mask):
                inside = (side == c) & (true != 255)
                edges.append(inside & ~binary_erosion(inside, np.ones((3, 3)), iterations=reach))
            intersection[i, c] = (edges[0] & edges[1]).sum()
            union[i, c] = (edges[0] | edges[1]).sum()
    pixels = count_edge_pixels(truth, masks, 4)
    expected = intersection.sum(0) / union.sum(0)
    assert summed(pixels).iou.tolist() == pytest.approx(expected.tolist())
    assert pixels.intersection.tolist() == intersection.tolist()
    measured = measure(segmentation(truth, masks))
    assert measured.value == pytest.approx(expected.mean())
    assert [*measured.details["boundary_iou"].values()] == pytest.approx(expected.tolist())


def test_a_class_that_the_truth_has_not_has_no_edge() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.uint8)
    edges = summed(count_edge_pixels(truth, truth, 2)).iou
    assert edges[0] == 1 and edges[1].isnan()
    assert measure(segmentation(truth, truth)).details["boundary_iou"] == {"background": 1.0}
