"""What every metric has to satisfy, and what it takes to add one."""

import shutil
from pathlib import Path

import pytest
import torch

from common.confusion import confusion_per_image, iou_figures, mean_iou
from common.files import read_json
from evaluation.metrics import METRICS
from evaluation.metrics.base import Measured, Metric, Segmentation
from tests.conftest import Chain
from tests.evaluation.metrics.masks import LABELS, blobs, segmentation
from train import main


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_share_that_the_truth_itself_reaches(name: str) -> None:
    truth, masks = blobs(5, 0), blobs(5, 1)
    truth[:, :4] = 255
    perfect = METRICS[name].measure(segmentation(truth, torch.where(truth == 255, 0, truth)))
    assert perfect.value == 1 and perfect.per_image.tolist() == [1] * 5
    measured = METRICS[name].measure(segmentation(truth, masks))
    assert measured.per_image.shape == (5,)
    assert all(0 < value < 1 for value in [measured.value, *measured.per_image.tolist()])
    assert METRICS[name].name == name and METRICS[name].heading and METRICS[name].meaning


@pytest.mark.parametrize("name", METRICS)
def test_the_value_of_one_image_is_that_of_a_set_of_it_alone(name: str) -> None:
    truth, masks = blobs(3, 2), blobs(3, 3)
    each = METRICS[name].measure(segmentation(truth, masks)).per_image
    for i in range(3):
        alone = METRICS[name].measure(segmentation(truth[[i]], masks[[i]]))
        assert alone.value == pytest.approx(each[i].item())


def test_an_image_without_foreground_has_no_value_of_it() -> None:
    truth, masks = blobs(2, 4), blobs(2, 5)
    truth[0] = 0
    each = METRICS["miou_foreground"].measure(segmentation(truth, masks)).per_image
    assert each[0].isnan() and not each[1].isnan()


def test_mean_iou_is_that_of_the_figures() -> None:
    truth, masks = blobs(6, 2), blobs(6, 3)
    truth[truth == 3] = 255  # an absent class
    each = confusion_per_image(truth, masks, 4)
    figures = iou_figures(each.sum(0), LABELS.names)
    assert mean_iou(each.sum(0)).item() == pytest.approx(figures["miou"])
    assert mean_iou(each)[2].item() == pytest.approx(iou_figures(each[2], LABELS.names)["miou"])


def test_a_new_metric_is_one_line_in_the_table(
    chain: Chain,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has a column in the terminal and in the report, and values in `comparison.json`."""

    def true_background(segmentation: Segmentation) -> Measured:
        each = (segmentation.truth == 0).flatten(1).double().mean(1)
        return Measured(float(each.mean()), each, {"toy_detail": "told too"})

    toy = Metric("toy", "toyhead", "share of background", true_background)
    monkeypatch.setitem(METRICS, "toy", toy)
    run = shutil.copytree(finished, tmp_path / "run")
    options = (
        "--config", chain.config, "--run.dir", run, "--run.overwrite", "true",
        "--compare.inversion_images", 0,
    )  # fmt: skip
    assert main(["compare", *map(str, options)]) == 0
    printed = capsys.readouterr().out
    assert "toyhead" in printed and "share of background" in printed
    row = read_json(run / "compare/comparison.json")["test_sets"]["held_out"]["models"]["student"]
    assert 0 < row["toy"] < 1 and row["toy_detail"] == "told too"
    assert len(row["per_image"]["toy"]) == 20
    assert sum(row["per_image"]["toy"]) / 20 == pytest.approx(row["toy"], abs=1e-4)
    page = (run / "compare/report.html").read_text(encoding="utf-8")
    assert "<th>toyhead</th>" in page and f"<td>{100 * row['toy']:.1f}</td>" in page
