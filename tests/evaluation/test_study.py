"""Several whole chains, side by side, through the command line."""

import re
import shutil
import statistics
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import read_json
from pipeline.config import Config
from pipeline.study import Variant, enough_epochs, variants, varied
from tests.conftest import Chain, run_cli


def test_every_number_of_labels_comes_once_before_any_is_repeated() -> None:
    assert variants(2, [1, 3]) == [Variant(1, 0), Variant(3, 0), Variant(1, 1), Variant(3, 1)]
    with pytest.raises(UserError, match="are counts"):
        variants(2, [0, 3])


@pytest.mark.parametrize(("labels", "epochs"), [(1, 600), (2, 300), (3, 200), (7, 200)])
def test_few_labels_are_seen_more_often(labels: int, epochs: int) -> None:
    assert enough_epochs(200, 3, labels) == epochs


def test_the_first_run_with_the_configs_own_labels_is_the_plain_run() -> None:
    config = Config()
    assert varied(config, Variant(3, 0), base=3) == config
    other = varied(config, Variant(5, 1), base=3)
    assert (other.teacher.shots, other.teacher.seed, other.student.seed) == (5, 1, 1)


def test_chains_over_draws_and_numbers_of_labels(chain: Chain, tmp_path: Path) -> None:
    command = (
        "compare", "--config", chain.config, "--run.dir", tmp_path, "--repeat", 2, "--shots", "1,2",
        "--teacher.shots_seed", 0, "--student.steps", 3, "--compare.inversion_images", 0,
    )  # fmt: skip
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "repeats"
    names = ["1-labels-0", "2-labels-0", "1-labels-1", "2-labels-1"]
    taught = [read_json(folder / name / "teacher/teacher.json")["samples"] for name in names]
    assert [len(samples) for samples in taught] == [1, 2, 1, 2]
    epochs = [read_json(folder / n / "teacher/config.json")["config"]["epochs"] for n in names]
    assert epochs == [18, 9, 18, 9]
    seeds = [
        read_json(folder / n / "student/config.json")["config"]["recipe"]["seed"] for n in names
    ]
    assert seeds == [0, 0, 1, 1]

    summary = read_json(folder / "summary.json")
    row = next(
        row for row in summary["rows"]
        if (row["test_set"], row["model"], row["labelled_samples"]) == ("held_out", "student", 2)
    )  # fmt: skip
    held_out = [
        read_json(folder / name / "compare/comparison.json")["test_sets"]["held_out"]["models"]
        for name in (names[1], names[3])
    ]
    each = [rows["student"]["miou"] for rows in held_out]
    assert row["each"] == each and each[0] != each[1]
    assert row["mean"] == pytest.approx(statistics.mean(each))
    assert row["deviation"] == pytest.approx(statistics.stdev(each))
    page = (folder / "report.html").read_text()
    assert f"{100 * row['mean']:.1f} ± {100 * row['deviation']:.1f}" in page
    assert page.count("<svg") == 2  # a curve for each test set
    chart = (folder / "held_out.svg").read_text()
    assert chart.count("labelled samples") == 1
    assert "fill: #ffffff" in chart  # readable on dark pages too

    # The report of one of them: of twenty images it has some, of five all.
    report = (folder / names[0] / "compare/report.html").read_text()
    captions = re.findall(r"<p [^>]*>([A-Z][a-z ,]+): mIoU ([\d., ]+)</p>", report)
    assert [title for title, _ in captions] == ["All, the best first", "Best", "Median", "Worst"]
    miou = [float(value) for _, values in captions[1:] for value in values.split(", ")]
    assert len(miou) == 9 and miou == sorted(miou, reverse=True)

    # Finished chains are taken as they are; one that is missing is made alike.
    shutil.rmtree(folder / "1-labels-0")
    again = run_cli(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already") == 3 * 6
    assert read_json(folder / "summary.json")["rows"] == summary["rows"]


def test_more_labels_than_there_are_end_the_study_with_a_sentence(
    chain: Chain, tmp_path: Path
) -> None:
    made = run_cli("compare", "--config", chain.config, "--run.dir", tmp_path, "--shots", "4")
    assert made.returncode == 2
    assert "teacher.shots is 4, but there are 3 annotated samples" in made.stderr
