"""Studies: what their chains are asked for, what is summed up, and two chains in earnest."""

import re
import shutil
import statistics
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import read_json, write_json
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


def test_chains_over_draws_and_numbers_of_labels_are_summed_up(
    chain: Chain, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chains themselves are others' matter: here each has a comparison of its own as its result."""
    asked: list[Config] = []
    found = {"1-labels-0": 0.4, "2-labels-0": 0.5, "1-labels-1": 0.44, "2-labels-1": 0.56}

    def distill(config: Config) -> None:
        asked.append(config)
        result = read_json(finished / "compare/comparison.json")
        result["labelled_samples"] = config.teacher.shots
        result["test_sets"]["held_out"]["models"]["student"]["miou"] = found[config.run.dir.name]
        write_json(config.run.dir / "compare/comparison.json", result)

    monkeypatch.setattr("pipeline.study.distill", distill)
    made = run_cli(
        "compare", "--config", chain.config, "--run.dir", tmp_path, "--repeat", 2, "--shots", "1,2",
        "--teacher.shots_seed", 0,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert [config.run.dir.name for config in asked] == list(found)
    assert [config.sources.generator for config in asked] == [chain.generator] * 4
    assert [(c.teacher.shots, c.teacher.epochs) for c in asked] == [(1, 18), (2, 9)] * 2
    for seeds in (
        [c.teacher.shots_seed for c in asked], [c.teacher.seed for c in asked],
        [c.label.seed - Config().label.seed for c in asked], [c.student.seed for c in asked],
    ):  # fmt: skip
        assert seeds == [0, 0, 1, 1]

    folder = tmp_path / "repeats"
    row = next(
        row for row in read_json(folder / "summary.json")["rows"]
        if (row["test_set"], row["model"], row["labelled_samples"]) == ("held_out", "student", 2)
    )  # fmt: skip
    assert row["each"] == [0.5, 0.56]
    assert row["mean"] == pytest.approx(0.53)
    assert row["deviation"] == pytest.approx(statistics.stdev([0.5, 0.56]))
    page = (folder / "report.html").read_text()
    assert f"{100 * row['mean']:.1f} ± {100 * row['deviation']:.1f}" in page
    assert page.count("<svg") == 4  # a curve for each test set
    chart = (folder / "held_out.svg").read_text()
    assert chart.count("labelled samples") == 1
    assert "fill: #ffffff" in chart  # readable on dark pages too


def test_finished_chains_are_taken_as_they_are_and_a_missing_one_is_made_alike(
    chain: Chain, tmp_path: Path
) -> None:
    command = (
        "compare", "--config", chain.config, "--run.dir", tmp_path, "--repeat", 2, "--shots", "2",
        "--teacher.shots_seed", 0, "--student.steps", 3, "--compare.inversion_images", 0,
    )  # fmt: skip
    made = run_cli(*command)
    assert made.returncode == 0, made.stderr
    folder, names = tmp_path / "repeats", ("2-labels-0", "2-labels-1")
    taught = [read_json(folder / name / "teacher/teacher.json")["samples"] for name in names]
    assert [len(samples) for samples in taught] == [2, 2]
    summary = read_json(folder / "summary.json")
    row = next(
        row for row in summary["rows"] if (row["test_set"], row["model"]) == ("held_out", "student")
    )
    held_out = [
        read_json(folder / name / "compare/comparison.json")["test_sets"]["held_out"]["models"]
        for name in names
    ]
    each = [rows["student"]["miou"] for rows in held_out]
    assert row["each"] == each and each[0] != each[1]
    assert row["mean"] == pytest.approx(statistics.mean(each))

    # The report of one of them: of twenty images it has some, of five all.
    report = (folder / names[0] / "compare/report.html").read_text()
    captions = re.findall(r"<p [^>]*>([A-Z][a-z ,]+): mIoU ([\d., ]+)</p>", report)
    assert [title for title, _ in captions] == ["All, the best first", "Best", "Median", "Worst"]
    miou = [float(value) for _, values in captions[1:] for value in values.split(", ")]
    assert len(miou) == 9 and miou == sorted(miou, reverse=True)

    shutil.rmtree(folder / names[0])
    again = run_cli(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already") == 6
    assert read_json(folder / "summary.json")["rows"] == summary["rows"]


def test_more_labels_than_there_are_end_the_study_with_a_sentence(
    chain: Chain, tmp_path: Path
) -> None:
    made = run_cli("compare", "--config", chain.config, "--run.dir", tmp_path, "--shots", "4")
    assert made.returncode == 2
    assert "teacher.shots is 4, but there are 3 annotated samples" in made.stderr
