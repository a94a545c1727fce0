"""The teacher's head on an image encoder's maps."""

import pytest
import torch

from common.confusion import confusion_matrix, mean_iou
from common.errors import UserError
from datasets.faces import render_faces
from datasets.labels import LabelSet
from evaluation.frozen_features import fit_frozen_features
from student.network import load_maps
from teacher.fewshot import FewShotConfig
from teacher.fit import TeacherStage

RECIPE = TeacherStage(
    FewShotConfig(widths=(16, 16, 16, 8)), epochs=30, lr_decay_epoch=25, learning_rate=1e-2, dice_weight=1.0, flip=0.5,
    standardise=True,
)  # fmt: skip


def test_the_head_learns_what_the_encoder_tells_apart(labels: LabelSet):
    """An encoder that knows the parts, at half the side; one that knows nothing."""
    pictures, masks = render_faces(5, torch.arange(9), 32)
    known = {
        picture.float().mean().item(): mask for picture, mask in zip(pictures, masks, strict=True)
    }

    def parts(shown: torch.Tensor) -> list[torch.Tensor]:
        mask = known[min(known, key=lambda mean: abs(mean - shown.mean().item()))]
        one_hot = torch.nn.functional.one_hot(mask.long(), 8).permute(2, 0, 1)[None].float()
        return [one_hot, torch.nn.functional.avg_pool2d(one_hot, 4)]

    def nothing(shown: torch.Tensor) -> list[torch.Tensor]:
        return [noise]

    noise = torch.randn(1, 4, 32, 32)
    reached = []
    for maps in (parts, nothing):
        predict = fit_frozen_features(maps, 64, pictures[:3], masks[:3], RECIPE, labels)
        matrix = confusion_matrix(masks[3:], predict(pictures[3:]), len(labels))
        reached.append(float(mean_iou(matrix)))
    assert reached[1] < 0.4 < 0.6 < reached[0]  # where parts of a face lie, noise can learn too


def test_a_size_that_the_stride_does_not_divide_is_refused(labels, student_folder):
    pictures, masks = render_faces(5, torch.arange(2), 16)
    maps = load_maps(str(student_folder), torch.device("cpu"))
    with pytest.raises(UserError, match=r"compare\.frozen\.size is 33"):
        fit_frozen_features(maps, 33, pictures, masks, RECIPE, labels)


def test_an_encoder_that_is_not_to_be_had_is_named():
    with pytest.raises(UserError, match="'resnet_of_mars' is neither a finished student folder"):
        load_maps("resnet_of_mars", torch.device("cpu"))
