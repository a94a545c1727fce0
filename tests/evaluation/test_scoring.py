from collections import Counter
from itertools import groupby

import torch

from datasets.test_sets import Truth
from evaluation.scoring import score


def test_models_take_turns_while_they_are_timed():
    asked: list[tuple[str, list[int]]] = []

    def model(name: str):
        def says(numbers: list[int]) -> torch.Tensor:
            asked.append((name, numbers))
            return torch.full((len(numbers), 4, 4), ord(name), dtype=torch.uint8)

        return says

    given = Truth(torch.zeros(7, 3, 4, 4), torch.zeros(7, 4, 4), {})
    scored = score(given, {name: model(name) for name in "ab"}, timed=7)
    assert asked[:2] == [("a", [*range(7)]), ("b", [*range(7)])]
    assert all((scored.masks[name] == ord(name)).all() for name in "ab")
    timed = asked[2:]
    assert [name for name, _ in groupby(timed, lambda call: call[0])] == ["a", "b", "a", "b"]
    assert Counter(name for name, _ in timed) == {"a": 7 + 2 * 3, "b": 7 + 2 * 3}
    assert {len(numbers) for _, numbers in timed} == {1}
    assert all(0 < scored.seconds[name] < 1 for name in "ab")
