import pytest
import torch
import torch.nn.functional as F

from common.confusion import confusion_matrix, iou_figures
from common.losses import cross_entropy, dice, lovasz


def test_weighted_cross_entropy_is_the_weighted_mean() -> None:
    torch.manual_seed(0)
    logits, target, weight = (
        torch.randn(2, 3, 4, 4),
        torch.randint(0, 3, (2, 4, 4)),
        torch.rand(2, 4, 4),
    )
    target[0, 0, 0] = 255
    each = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    counted = weight * (target != 255)
    expected = (each * counted).sum() / counted.sum()
    assert torch.allclose(cross_entropy(logits, target, weight, 255), expected)


def test_soft_targets_that_are_certain_are_hard_ones() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    weight = torch.rand(2, 4, 4)
    certain = F.one_hot(target, 3).permute(0, 3, 1, 2).float()
    target[0, 0, 0] = 255
    hard = cross_entropy(logits, target, weight, 255)
    assert torch.allclose(cross_entropy(logits, target, weight, 255, certain), hard)


def test_dice_is_zero_for_the_truth_and_near_one_for_its_opposite() -> None:
    target = torch.randint(0, 2, (1, 8, 8))
    right = F.one_hot(target, 2).permute(0, 3, 1, 2).float() * 40
    weight = torch.ones(1, 8, 8)
    assert dice(right, target, weight, 255) < 1e-5
    assert dice(-right, target, weight, 255) > 0.99


def test_dice_leaves_absent_classes_and_ignored_pixels_out() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, 0] = 255
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 40
    logits[:, 1, 0] = 99  # wrong, but where nobody looks
    assert dice(logits, target, torch.ones(1, 4, 4), 255) < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_of_a_decided_prediction_is_one_minus_its_mean_iou(seed: int) -> None:
    torch.manual_seed(seed)
    target = torch.randint(0, 4, (1, 9, 9))
    said = torch.where(torch.rand(1, 9, 9) < 0.7, target, torch.randint(0, 4, (1, 9, 9)))
    target[0, 0] = 255
    decided = 60 * F.one_hot(said, 4).permute(0, 3, 1, 2).float()
    expected = 1 - iou_figures(confusion_matrix(target, said, 4), "abcd")["miou"]
    loss = lovasz(decided, target, torch.ones(1, 9, 9), 255)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_lovasz_counts_pixels_by_weight_and_leaves_absent_classes_out() -> None:
    target = torch.zeros(2, 1, 4, dtype=torch.long)
    said = torch.tensor([[[0, 0, 1, 2]], [[0, 0, 0, 0]]])
    decided = 60 * F.one_hot(said, 3).permute(0, 3, 1, 2).float()
    weight = torch.tensor([[[1.0, 1.0, 0.5, 0.0]], [[1.0, 1.0, 1.0, 1.0]]])
    # Of 2.5 in the first image 0.5 is wrong; the second is right.
    assert float(lovasz(decided, target, weight, 255)) == pytest.approx(0.1, abs=1e-5)


def test_lovasz_has_the_gradient_of_its_value() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    target, weight = torch.randint(0, 3, (2, 3, 4)), torch.rand(2, 3, 4, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return lovasz(x, target, weight, 255)

    (mine,) = torch.autograd.grad(loss(logits), logits)
    for index in ((0, 1, 2, 3), (1, 2, 0, 0), (0, 0, 1, 1)):
        moved = torch.zeros_like(logits)
        moved[index] = 1e-3
        slope = (loss(logits + moved) - loss(logits - moved)).item() / 2e-3
        assert mine[index].item() == pytest.approx(slope, abs=2e-4)
