"""The teacher's network on an image encoder's feature maps."""

from pathlib import Path

import pytest
import torch

from common.confusion import predicted_miou
from common.errors import UserError
from datasets.faces import render_faces
from datasets.labels import LabelSet
from evaluation.frozen_features import fit_frozen_features
from student.network import load_maps
from teacher.fewshot import FewShotConfig
from teacher.fit import TeacherStage

RECIPE = TeacherStage(
    FewShotConfig(widths=(16, 16, 16, 8)), epochs=30, lr_decay_epoch=25, learning_rate=1e-2,
    dice_weight=1.0, flip=0.5, standardise=True,
)  # fmt: skip


def test_the_head_learns_what_the_encoder_tells_apart(labels: LabelSet) -> None:
    """An encoder that knows the parts, at half the side; one that knows nothing."""
    images, masks = render_faces(5, torch.arange(9), 32)
    known = {image.float().mean().item(): mask for image, mask in zip(images, masks, strict=True)}

    def parts(batch: torch.Tensor) -> list[torch.Tensor]:
        mask = known[min(known, key=lambda mean: abs(mean - batch.mean().item()))]
        one_hot = torch.nn.functional.one_hot(mask.long(), 8).permute(2, 0, 1)[None].float()
        return [one_hot, torch.nn.functional.avg_pool2d(one_hot, 4)]

    def nothing(batch: torch.Tensor) -> list[torch.Tensor]:
        return [noise]

    noise = torch.randn(1, 4, 32, 32)
    reached = []
    for maps in (parts, nothing):
        predict = fit_frozen_features(maps, 64, images[:3], masks[:3], RECIPE, labels)
        reached.append(predicted_miou(predict, images[3:], masks[3:], len(labels)))
    assert reached[1] < 0.4 < 0.6 < reached[0]  # where parts of a face lie, noise can learn too


def test_a_size_that_the_stride_does_not_divide_is_refused(
    labels: LabelSet, student_folder: Path
) -> None:
    images, masks = render_faces(5, torch.arange(2), 16)
    maps = load_maps(str(student_folder), torch.device("cpu"))
    with pytest.raises(UserError, match=r"compare\.frozen_features\.size is 33"):
        fit_frozen_features(maps, 33, images, masks, RECIPE, labels)


def test_an_encoder_that_is_not_to_be_had_is_named() -> None:
    with pytest.raises(UserError, match="'resnet_of_mars' is neither a finished student folder"):
        load_maps("resnet_of_mars", torch.device("cpu"))
