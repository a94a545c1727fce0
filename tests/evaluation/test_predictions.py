from collections import Counter
from itertools import groupby

import torch

from datasets.test_sets import Truth
from evaluation.predictions import PredictIndices, predict_set


def test_models_take_turns_while_they_are_timed() -> None:
    calls: list[tuple[str, list[int]]] = []

    def model(name: str) -> PredictIndices:
        def predict(indices: list[int]) -> torch.Tensor:
            calls.append((name, indices))
            return torch.full((len(indices), 4, 4), ord(name), dtype=torch.uint8)

        return predict

    test_set = Truth(torch.zeros(7, 3, 4, 4), torch.zeros(7, 4, 4), {})
    predictions = predict_set(test_set, {name: model(name) for name in "ab"}, timed_images=7)
    assert calls[:2] == [("a", [*range(7)]), ("b", [*range(7)])]
    assert all((predictions.masks[name] == ord(name)).all() for name in "ab")
    timed = calls[2:]
    assert [name for name, _ in groupby(timed, lambda call: call[0])] == ["a", "b", "a", "b"]
    assert Counter(name for name, _ in timed) == {"a": 7 + 2 * 3, "b": 7 + 2 * 3}
    assert {len(indices) for _, indices in timed} == {1}
    assert all(0 < predictions.seconds[name] < 1 for name in "ab")
