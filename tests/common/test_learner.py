from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.learner import Learner, require_finite, warmup_cosine


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [warmup_cosine(1.0, step, 1000, 100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates.index(max(rates)) in range(95, 105)
    assert rates[-1] == pytest.approx(0)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_no_warm_up() -> None:
    assert warmup_cosine(1.0, 0, 1500, 0) == 1.0


def test_a_learner_goes_on_from_its_state() -> None:
    def make() -> Learner:
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        return Learner(network, torch.optim.AdamW(network.parameters()), ema_decay=0.9)

    def train(learner: Learner, steps: range) -> dict[str, Any]:
        for step in steps:
            learner.set_learning_rate(0.1)
            learner.network(torch.ones(1, 3)).square().sum().backward()
            learner.update(step)
        return learner.state()

    whole = train(make(), range(4))
    resumed = make()
    resumed.load(train(make(), range(2)))
    again = train(resumed, range(2, 4))
    for part in ("network", "average"):
        assert all(torch.equal(again[part][name], whole[part][name]) for name in whole[part])
    assert not torch.equal(whole["network"]["weight"], whole["average"]["weight"])


def test_a_loss_that_is_no_number_names_its_step() -> None:
    require_finite(torch.tensor(1.0), "the student", 7, "lower it")
    with pytest.raises(
        UserError, match=r"the student's loss is nan at step 7 \(samples 3\); lower it"
    ):
        require_finite(torch.tensor(torch.nan), "the student", 7, "lower it", "samples 3")
