import pytest
import torch

from common.errors import UserError
from datasets.batches import EndlessBatches
from student.data import batches


class Damaged(torch.utils.data.Dataset):
    def __getitems__(self, keys):
        raise UserError("shard-00003.zip: masks/0000750.png is damaged (not a PNG: none).")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_loader_cannot_read_is_one_sentence(workers):
    """Wherever it is read."""
    order = EndlessBatches(8, 4, 0, 2, 0, 0, 1)
    with pytest.raises(UserError) as caught:
        next(batches(Damaged(), order, workers))
    assert str(caught.value) == "shard-00003.zip: masks/0000750.png is damaged (not a PNG: none)."
