"""The teacher's layers on a processor, against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from teacher.fewshot import FewShotConfig
from teacher.layers import convolve, dropout


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("dilation", "side"), [(1, 8), (2, 8), (4, 8), (2, 7), (3, 9)])
def test_a_dilated_convolution_is_pytorchs(dilation: int, side: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 9, 3, padding=dilation, dilation=dilation, groups=groups).double()
    for layout in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(2, 6, side, side, dtype=torch.float64).contiguous(memory_format=layout)
        x.requires_grad_()
        mine, theirs = convolve(conv, x), conv(x)
        assert torch.allclose(mine, theirs)
        upstream, inputs = torch.randn_like(theirs), [x, *conv.parameters()]
        for a, b in zip(
            torch.autograd.grad(mine, inputs, upstream, retain_graph=True),
            torch.autograd.grad(theirs, inputs, upstream),
            strict=True,
        ):
            assert torch.allclose(a, b)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_dropout_leaves_out_a_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(2, 50, 31, 33).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = dropout(x, share)
    kept = y != 0
    assert abs(float(kept.float().mean()) - (1 - share)) < 0.005  # 102,300 draws: 3 deviations
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - share)), rtol=1e-3)
    assert abs(float(y.detach().mean()) - 1) < 0.03
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y)  # what is left out learns nothing
    # Neighbours are left out independently of each other, also those of one 64-bit number.
    flat = kept.permute(0, 2, 3, 1).flatten().float()
    for step in (1, 2, 3, 4):
        both = (flat[step:] * flat[:-step]).mean()
        assert abs(float(both) - (1 - share) ** 2) < 0.008


def test_dropout_follows_the_random_state() -> None:
    x = torch.randn(3, 7, 5, 5)
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(dropout(x, 0.5))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert torch.equal(dropout(x, 0), x)


def test_dropout_in_half_precision_keeps_its_type() -> None:
    x = torch.randn(2, 4, 6, 6, dtype=torch.bfloat16)
    assert dropout(x, 0.5).dtype == F.dropout(x, 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("option", ["channel_dropout", "head_dropout"])
@pytest.mark.parametrize("share", [1.0, -0.1, 1.5])
def test_shares_that_are_none_are_refused(option: str, share: float) -> None:
    with pytest.raises(UserError, match=rf"teacher\.network\.{option} is {share}"):
        FewShotConfig(**{option: share})  # type: ignore[arg-type]
