"""Which of the annotated samples a teacher learns from."""

import pytest

from common.errors import UserError
from datasets.annotations import choose_shots


def test_all_the_first_or_a_random_choice() -> None:
    assert choose_shots(5, 0, None) == [0, 1, 2, 3, 4]
    assert choose_shots(5, 2, None) == [0, 1]
    drawn = {tuple(choose_shots(20, 3, seed)) for seed in range(10)}
    assert len(drawn) == 10  # 1140 choices: equal ones would be a fault
    assert all(len({*chosen}) == 3 and max(chosen) < 20 for chosen in drawn)
    assert choose_shots(20, 3, 4) == choose_shots(20, 3, 4)


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher\.shots is 6, but there are 5 annotated samples"):
        choose_shots(5, 6, None)
