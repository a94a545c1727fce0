import pytest
import torch

from common.errors import UserError
from student.recipe import StudentStage, mixed_precision


@pytest.mark.parametrize(
    ("instructions", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")],
)
def test_precision_follows_the_processor_where_it_may(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], precision: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert mixed_precision(StudentStage(precision="auto")) == precision
    assert mixed_precision(StudentStage(precision="no")) == "no"


@pytest.mark.parametrize("option", ["steps", "batch_size", "val_images", "grad_accumulation_steps"])
def test_counts_below_one_are_refused(option: str) -> None:
    options: dict[str, int] = {option: 0}
    with pytest.raises(UserError, match=rf"student\.{option} is 0"):
        StudentStage(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_steps_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(UserError, match=r"student\.half_size_share is"):
        StudentStage(half_size_share=share)
