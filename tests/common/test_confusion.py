import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.functional.segmentation import mean_iou

from common.confusion import confusion_matrix, iou_figures

NAMES = ("background", "a", "b", "c")


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics(seed: int) -> None:
    torch.manual_seed(seed)
    truth = torch.randint(0, 4, (3, 9, 7))
    prediction = torch.where(torch.rand(3, 9, 7) < 0.5, truth, torch.randint(0, 4, (3, 9, 7)))
    truth[torch.rand(3, 9, 7) < 0.1] = 255
    mine = confusion_matrix(truth, prediction, 4)
    oracle = multiclass_confusion_matrix(prediction, truth, 4, ignore_index=255)
    assert torch.equal(mine, oracle)


def test_iou_agrees_with_torchmetrics_on_one_image() -> None:
    torch.manual_seed(0)
    truth, prediction = torch.randint(0, 4, (1, 20, 20)), torch.randint(0, 4, (1, 20, 20))
    figures = iou_figures(confusion_matrix(truth, prediction, 4), NAMES)
    oracle = mean_iou(prediction, truth, num_classes=4, per_class=True, input_format="index")
    assert list(figures["iou"].values()) == pytest.approx(oracle[0].tolist())
    assert figures["miou"] == pytest.approx(oracle.mean().item())
    assert figures["miou_foreground"] == pytest.approx(oracle[0, 1:].mean().item())


def test_absent_classes_are_named_and_not_averaged() -> None:
    truth = torch.tensor([0, 0, 1, 1])
    prediction = torch.tensor([0, 2, 1, 1])  # a false alarm of an absent class costs background
    figures = iou_figures(confusion_matrix(truth, prediction, 4), NAMES)
    assert figures["absent"] == ["b", "c"]
    assert figures["iou"] == {"background": 0.5, "a": 1.0}
    assert figures["miou"] == 0.75
    assert figures["pixel_accuracy"] == 0.75
