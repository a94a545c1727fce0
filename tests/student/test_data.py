from typing import Any

import pytest
import torch

from common.errors import UserError
from datasets import Dataset
from datasets.batches import EndlessBatches
from datasets.transforms import Sample
from student.data import batches, halved, split_validation


class Damaged(Dataset[Any]):
    def __getitems__(self, keys: list[int]) -> list[Any]:
        raise UserError("shard-00003.zip: masks/0000750.png is damaged (not a PNG: none).")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_loader_cannot_read_is_one_sentence(workers: int) -> None:
    """Wherever it is read."""
    order = EndlessBatches(8, 4, 0, 2, 0, 0, 1)
    with pytest.raises(UserError) as caught:
        next(batches(Damaged(), order, workers))  # type: ignore[arg-type]
    assert str(caught.value) == "shard-00003.zip: masks/0000750.png is damaged (not a PNG: none)."


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        return 10 * index


def test_the_last_items_validate() -> None:
    training, validation = split_validation(Numbers(), 2)
    assert [training[i] for i in range(len(training))] == [0, 10, 20, 30, 40]
    assert validation.__getitems__([1, 0]) == [60, 50]


def test_a_batch_at_half_its_size() -> None:
    """Pixels are means; labels are one of four, of each in turn, with the confidence that is theirs."""
    image = torch.tensor([[0, 4, 9], [8, 12, 9], [9, 9, 9]], dtype=torch.uint8).expand(2, 3, 3, 3)
    mask = torch.arange(9).view(1, 3, 3).expand(2, 3, 3)
    batch = Sample(
        image,
        mask,
        mask / 10,
        mask.to(torch.uint8).unsqueeze(1).expand(2, 4, 3, 3),
        torch.arange(2),
        torch.empty(2, 0),
        torch.empty(2, 0),
    )
    seen = []
    for step in range(4):
        small = halved(batch, step)
        assert small.image.dtype == torch.uint8 and torch.equal(
            small.image, torch.full((2, 3, 1, 1), 6)
        )
        assert torch.equal(small.confidence, small.mask / 10)
        assert torch.equal(small.runners_up, small.mask.unsqueeze(1).expand(2, 4, 1, 1))
        assert torch.equal(small.number, batch.number)
        seen.append(int(small.mask[0, 0, 0]))
    assert sorted(seen) == [0, 1, 3, 4]  # the third row and column have no partner
