import numpy as np
import pytest
import torch

from datasets.sheets import at_once, grid


@pytest.mark.parametrize(("side", "count"), [(16, 50), (256, 50), (512, 12), (1024, 3), (5000, 1)])
def test_a_network_is_shown_fewer_large_pictures_at_once(side, count):
    assert at_once(torch.empty(1, 3, side, side, device="meta")) == count


@pytest.mark.parametrize(
    ("side", "shown"), [(16, 128), (64, 128), (100, 100), (256, 256), (1024, 256)]
)
def test_sheets_stay_of_a_size_to_be_looked_at(side, shown):
    sheet = grid({"a": [np.zeros((side, side, 3), np.uint8)] * 3, "b": []})
    assert sheet.shape == (22 + 3 * (shown + 4), 4 + 2 * (shown + 4), 3)
