"""The label stage as people run it: real generator, real teacher, real processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from common.errors import UserError
from common.files import read_json
from datasets.annotations import Samples
from datasets.labels import LabelSet
from datasets.pseudo_labels import PseudoLabels, read_scores, shard_name
from teacher.edges import smooth_along_edges
from teacher.fewshot import FewShotCNN, FewShotConfig, image_score, load_teacher, uncertainty
from teacher.generators.base import channels_of
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed, to_uint8
from teacher.label import produce
from teacher.labeller import Labeller, LabelStage
from teacher.online import OnlineSamples
from teacher.predict import predict_samples
from tests.conftest import (
    LABELS,
    ROOT,
    Chain,
    command_line,
    environment,
    ranks,
    run_cli,
    run_process,
)

OPTIONS = (
    "--teacher.network.members", 2, "--label.count", 60, "--label.shard_size", 8, "--label.batch_size", 4,
    "--label.top_k", 3, "--label.drop_uncertain", 0.1, "--teacher.network.follow_edges", "true",
)  # fmt: skip


@pytest.fixture(scope="module")
def taught(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an ensemble of two teachers, and its labels."""
    run = tmp_path_factory.mktemp("ensemble")
    for stage in ("teacher", "label"):
        made = run_cli(stage, "--config", chain.config, "--run.dir", run, *OPTIONS)
        assert made.returncode == 0, made.stderr
    return run


def labeller(chain: Chain, run: Path, **options: Any) -> Labeller:
    config, labels = LabelStage(count=60, batch_size=4, **options), LabelSet.load(LABELS)
    generator = load_generator(chain.generator)
    teacher = load_teacher(run / "teacher", generator, labels.names)
    return Labeller(config, generator, teacher, labels)


def label_again(chain: Chain, taught: Path, run: Path, launcher: tuple[str, ...] = ()) -> None:
    shutil.copytree(taught / "teacher", run / "teacher")
    made = run_cli("label", "--config", chain.config, "--run.dir", run, *OPTIONS, launcher=launcher)
    assert made.returncode == 0, made.stderr


def assert_same_labels(mine: Path, theirs: Path) -> None:
    names = sorted(path.name for path in theirs.glob("label/shard-*.zip"))
    assert names == [shard_name(n) for n in range(8)]
    for name in [*names, "pseudo_labels.json", "pseudo_labels.png"]:
        assert (mine / "label" / name).read_bytes() == (theirs / "label" / name).read_bytes()


def test_stored_samples_are_what_generator_and_teacher_say(chain: Chain, taught: Path) -> None:
    """Sample 13 by hand, from nothing but seed and number."""
    made, store = labeller(chain, taught), PseudoLabels(taught / "label")
    generator, seed = made.generator, LabelStage().seed
    with torch.no_grad():
        latents = latents_of_seed(generator, seed, 1.0)([13])
        image, features = generator.synthesise(latents)
        members = made.teacher(features).softmax(2)
    answer = smooth_along_edges(members.mean(1), to_uint8(image))
    alone = predict_samples(generator, made.teacher, Samples(latents, to_uint8(image)))
    sample = store.sample(13)
    drawn = ((image[0] + 1) * 127.5).round().clamp(0, 255)
    assert (drawn - sample.image).abs().max() <= 1
    ranked = answer[0].sort(0, descending=True)
    assert (alone[0] == sample.mask).float().mean() > 0.99
    assert (ranked.indices[0] == sample.mask).float().mean() > 0.99
    assert (ranked.values[0] * 255 - sample.confidence).abs().max() <= 1
    assert (ranked.values[1:3] * 255 - sample.runners_up[1::2]).abs().max() <= 1
    assert (ranked.indices[1:3] == sample.runners_up[0::2]).float().mean() > 0.99
    score = image_score(uncertainty(members)).item()
    assert read_scores(taught / "label", 8)[13] == pytest.approx(score, abs=1e-5)


def test_the_most_uncertain_tenth_is_dropped(taught: Path) -> None:
    scores, store = read_scores(taught / "label", 8), PseudoLabels(taught / "label")
    dropped = read_json(taught / "label/pseudo_labels.json")["dropped"]
    assert len(dropped) == 6 and len(store) == 54
    assert min(scores[i] for i in dropped) >= max(scores[i] for i in store.kept)
    assert read_json(taught / "label/manifest.json")["figures"]["dropped"] == 6


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_makes_the_same_bytes(
    chain: Chain, taught: Path, tmp_path: Path, processes: int
) -> None:
    label_again(chain, taught, tmp_path, ranks(processes))
    assert read_json(tmp_path / "label/manifest.json")["processes"] == processes
    assert_same_labels(tmp_path, taught)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path, labels: LabelSet) -> None:
    """At a real size: small sums are never split among threads."""
    generator = load_generator(ROOT / "assets/faces64/generator")
    torch.manual_seed(0)
    teacher = (
        FewShotCNN(FewShotConfig(), channels_of(generator), 64, 8).eval().requires_grad_(False)
    )
    made = Labeller(LabelStage(count=12, shard_size=12), generator, teacher, labels)
    threads, shards = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        (tmp_path / str(count)).mkdir()
        produce(made, [0], tmp_path / str(count))
        assert torch.get_num_threads() == count
        shards.append((tmp_path / str(count) / shard_name(0)).read_bytes())
    torch.set_num_threads(threads)
    assert shards[0] == shards[1] == shards[2]


def test_killed_at_ten_random_moments_it_loses_and_changes_nothing(
    chain: Chain, taught: Path, tmp_path: Path
) -> None:
    shutil.copytree(taught / "teacher", tmp_path / "teacher")
    command = command_line("label", "--config", chain.config, "--run.dir", tmp_path, *OPTIONS)
    moment, finished, left = random.Random(0), dict[str, bytes](), set[int]()

    def shards() -> list[Path]:
        return list(tmp_path.glob("label/shard-*.zip"))

    for kill in range(10):
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            process.stderr.read(1)  # the progress bar: work has begun
            if kill % 3 == 0:  # whatever the machine's speed, these leave another shard behind
                while len(shards()) == len(finished) and process.poll() is None:
                    time.sleep(0.002)
            else:
                time.sleep(moment.uniform(0, 0.03))  # a fast machine needs 0.1 s for all
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        now = {path.name: path.read_bytes() for path in shards()}
        assert finished.items() <= now.items()
        finished = now
        left.add(len(finished))
    assert left & set(range(1, 8)), "no kill fell between two shards"
    made = run_process(command)
    assert made.returncode == 0, made.stderr
    assert_same_labels(tmp_path, taught)
    assert not list(tmp_path.glob("label/.*partial"))


def test_a_set_that_the_disk_has_no_room_for_is_refused_first(
    chain: Chain, taught: Path, tmp_path: Path
) -> None:
    shutil.copytree(taught / "teacher", tmp_path / "teacher")
    made = run_cli(
        "label", "--config", chain.config, "--run.dir", tmp_path, "--teacher.network.members", 2,
        "--label.count", 10**12, "--label.shard_size", 10**11,
    )  # fmt: skip
    assert made.returncode == 2
    assert "GiB are free" in made.stderr and "Traceback" not in made.stderr
    assert not list(tmp_path.glob("label/*.zip"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence_and_keeps_what_is_done(
    chain: Chain, taught: Path, tmp_path: Path
) -> None:
    shutil.copytree(taught / "teacher", tmp_path / "teacher")
    shutil.copytree(taught / "label", tmp_path / "label")
    for name in ("manifest.json", shard_name(5), "pseudo_labels.json"):
        (tmp_path / "label" / name).unlink()
    (tmp_path / "label" / f".{shard_name(5)}.partial").symlink_to("/dev/full")
    before = {p.name: p.read_bytes() for p in tmp_path.glob("label/shard-*.zip")}
    command = ("label", "--config", chain.config, "--run.dir", tmp_path, *OPTIONS)
    made = run_cli(*command)
    assert made.returncode == 2
    assert "the disk is full" in made.stderr and "Traceback" not in made.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.glob("label/shard-*.zip")} == before
    made = run_cli(*command)  # the link is gone, as when room was made
    assert made.returncode == 0, made.stderr
    assert_same_labels(tmp_path, taught)


def test_samples_made_online_are_the_stored_ones(chain: Chain, taught: Path) -> None:
    online = OnlineSamples(labeller(chain, taught, top_k=3))
    store = PseudoLabels(taught / "label")
    numbers = [41, 3, 3, 17, 58]
    for number, mine in zip(numbers, online.__getitems__(numbers), strict=True):
        theirs = store.sample(number)
        assert (mine.image.int() - theirs.image.int()).abs().max() <= 1
        assert (mine.mask == theirs.mask).float().mean() > 0.99
        assert mine.runners_up.shape == theirs.runners_up.shape


def test_impossible_options_are_refused(chain: Chain, taught: Path) -> None:
    with pytest.raises(UserError, match=r"label\.drop_uncertain is 1\.0"):
        LabelStage(drop_uncertain=1.0)
    for name in ("count", "shard_size", "top_k"):
        with pytest.raises(UserError, match=rf"label\.{name} is 0; it is a count"):
            LabelStage(**cast(dict[str, Any], {name: 0}))
    with pytest.raises(UserError, match=r"label\.top_k is 9, but the label set has 8 classes"):
        labeller(chain, taught, top_k=9)


def test_a_teacher_of_another_generator_is_refused(
    chain: Chain, taught: Path, tmp_path: Path
) -> None:
    shutil.copytree(taught / "teacher", tmp_path / "teacher")
    about = json.loads((tmp_path / "teacher/teacher.json").read_text())
    about["features"]["16.1"] += 1
    (tmp_path / "teacher/teacher.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="features of another generator"):
        labeller(chain, tmp_path)


def test_a_teacher_of_other_classes_is_refused(chain: Chain, taught: Path, tmp_path: Path) -> None:
    shutil.copytree(taught / "teacher", tmp_path / "teacher")
    about = json.loads((tmp_path / "teacher/teacher.json").read_text())
    about["classes"][-1] = "hat"
    (tmp_path / "teacher/teacher.json").write_text(json.dumps(about))
    with pytest.raises(
        UserError, match=r"this teacher was trained for classes .*hat; the run's label set"
    ):
        labeller(chain, tmp_path)
