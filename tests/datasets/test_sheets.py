import numpy as np
import pytest
import torch

from datasets.sheets import batch_size_for, grid


@pytest.mark.parametrize(("side", "count"), [(16, 50), (256, 50), (512, 12), (1024, 3), (5000, 1)])
def test_a_network_takes_fewer_large_images_at_a_time(side: int, count: int) -> None:
    assert batch_size_for(torch.empty(1, 3, side, side, device="meta")) == count


@pytest.mark.parametrize(
    ("side", "shown"), [(16, 128), (64, 128), (100, 100), (256, 256), (1024, 256)]
)
def test_sheets_stay_of_a_size_to_be_looked_at(side: int, shown: int) -> None:
    sheet = grid({"a": [np.zeros((side, side, 3), np.uint8)] * 3, "b": []})
    assert sheet.shape == (22 + 3 * (shown + 4), 4 + 2 * (shown + 4), 3)
