from dataclasses import replace

import pytest
import torch

from student.recipe import StudentStage, learning_rate, mixed_precision


def test_learning_rate_warms_up_and_ends_at_zero():
    config = StudentStage(steps=1000, warmup_steps=100, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates.index(max(rates)) in range(95, 105)
    assert rates[-1] == pytest.approx(0)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_no_warm_up():
    assert learning_rate(replace(StudentStage(), warmup_steps=0, learning_rate=1.0), 0) == 1.0


@pytest.mark.parametrize(
    ("instructions", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")],
)
def test_precision_follows_the_processor_where_it_may(monkeypatch, instructions, precision):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert mixed_precision(StudentStage(precision="auto")) == precision
    assert mixed_precision(StudentStage(precision="no")) == "no"
