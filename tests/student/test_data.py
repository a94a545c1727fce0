from typing import Any

import pytest

from common.errors import UserError
from datasets import Dataset
from datasets.batches import EndlessBatches
from student.data import batches, split_validation


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
