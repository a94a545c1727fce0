import torch
import torch.nn.functional as F

from datasets.losses import cross_entropy, dice


def test_weighted_cross_entropy_is_the_weighted_mean():
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


def test_soft_targets_that_are_certain_are_hard_ones():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    weight = torch.rand(2, 4, 4)
    certain = F.one_hot(target, 3).permute(0, 3, 1, 2).float()
    target[0, 0, 0] = 255
    hard = cross_entropy(logits, target, weight, 255)
    assert torch.allclose(cross_entropy(logits, target, weight, 255, certain), hard)


def test_dice_is_zero_for_the_truth_and_near_one_for_its_opposite():
    target = torch.randint(0, 2, (1, 8, 8))
    right = F.one_hot(target, 2).permute(0, 3, 1, 2).float() * 40
    weight = torch.ones(1, 8, 8)
    assert dice(right, target, weight, 255) < 1e-5
    assert dice(-right, target, weight, 255) > 0.99


def test_dice_leaves_absent_classes_and_ignored_pixels_out():
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, 0] = 255
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 40
    logits[:, 1, 0] = 99  # wrong, but where nobody looks
    assert dice(logits, target, torch.ones(1, 4, 4), 255) < 1e-5
