"""The teacher's steps, on feature maps drawn for the purpose."""

import math
from dataclasses import replace

import torch

from teacher.fewshot import FewShotCNN, FewShotConfig
from teacher.fit import TeacherStage, clip_members, train_epoch
from teacher.shots import Shot

FEATURES = {"4.0": 6, "8.0": 5}
CONFIG = FewShotConfig(widths=(8, 6, 4, 4), members=3)
RECIPE = TeacherStage(network=CONFIG, learning_rate=3e-3, lr_decay_epoch=1000)


def shots(count: int) -> list[Shot]:
    """Maps of two sizes, and masks that can be told from them."""
    torch.manual_seed(1)
    made = []
    for _ in range(count):
        maps = [torch.randn(1, c, int(n[0]), int(n[0])) for n, c in FEATURES.items()]
        made.append(Shot(maps, (maps[1][:, 0] > 0).to(torch.uint8)))
    return made


def louder(shot: Shot, times: float) -> Shot:
    return Shot([times * maps for maps in shot.features], 1 - shot.mask)


def loss_after_an_outlier(clip: float) -> float:
    """Mean loss on samples that were learned, right after some steps on one that is unlike them."""
    torch.manual_seed(0)
    teacher = FewShotCNN(CONFIG, FEATURES, 8, 2)
    optimiser = torch.optim.Adam(teacher.parameters(), RECIPE.learning_rate)
    recipe, data = replace(RECIPE, grad_clip_norm=clip), shots(4)
    for _ in range(100):
        learned = train_epoch(teacher, optimiser, recipe, 0, data, 255)
    assert learned < 0.1
    for _ in range(3):
        train_epoch(teacher, optimiser, recipe, 0, [louder(data[0], 1000)], 255)
    return train_epoch(teacher, optimiser, recipe, 0, data, 255)


def test_an_outlier_does_not_throw_the_teacher_out_of_what_it_has_learned() -> None:
    assert loss_after_an_outlier(clip=1.0) < math.log(2) < loss_after_an_outlier(clip=0.0)


def test_members_are_clipped_each_for_itself() -> None:
    torch.manual_seed(0)
    teacher = FewShotCNN(CONFIG, FEATURES, 8, 2)
    logits = teacher(shots(1)[0].features)
    (logits * torch.tensor([1e-3, 1.0, 1e3])[:, None, None, None]).square().sum().backward()

    def norms() -> torch.Tensor:
        slopes = [p.grad for p in teacher.parameters() if p.grad is not None]
        each = [slope.view(3, -1).norm(dim=1) for slope in slopes]
        return torch.stack(each).norm(dim=0)

    before = norms()
    assert before[0] < 1 < before[2]
    clip_members(teacher, 1.0)
    assert torch.allclose(norms(), before.clamp_max(1), rtol=1e-4)
