"""Stage `label`: fresh samples with the teacher's labels, thousands of them.

Every sample is a pure function of (generator, teacher, seed, index), and a shard is always made in the same
batches, so that its bytes do not depend on how many processes shared the work. It is a production line:
random inputs are drawn ahead, PNG encoding runs in background threads, and finished shards are written
while the next batch is computed.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from accelerate import PartialState
from tqdm import tqdm

from common.errors import UserError
from common.files import write_json
from common.options import require_counts
from common.prefetch import prefetch
from common.processors import native_precision
from common.stage_folder import Result, StageFolder
from datasets.labels import LabelSet
from datasets.pseudo_labels import (
    INDEX,
    Encoded,
    Labelled,
    PseudoLabels,
    encode,
    most_uncertain,
    read_scores,
    shard_name,
    write_shard,
)
from datasets.sheets import grid, save_sheet, to_array
from teacher.fewshot import FewShotCNN, image_score, load_teacher, uncertainty
from teacher.generators.base import FeatureGenerator, Latents
from teacher.generators.registry import load_generator
from teacher.generators.sampling import (
    batch_workers,
    chunks,
    feature_floats,
    sample_batch_size,
    to_uint8,
)

SHEET = "pseudo_labels.png"
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 64  # samples that wait for their files, at most, beside a batch
_PER_GROUP = 8


@dataclass(frozen=True)
class LabelStage:
    """Stage `label`.

    Args:
        count: number of samples to label.
        seed: seed of the samples; one never used for annotation.
        truncation: psi of the samples; 1 for full variety.
        shard_size: samples in a shard.
        batch_size: samples per batch; none for as many as suit the device.
        precision: number format of the convolutions: 32-bit floats (no), bf16, or auto for bf16 where the
            device computes in it.
        top_k: classes whose probability is kept for every pixel: 1 for hard labels with their
            confidence, more for soft labels.
        drop_uncertain: share of the samples, the most uncertain ones, that is not trained on.
    """

    count: int = 4000
    seed: int = 1000
    truncation: float = 1.0
    shard_size: int = 250
    batch_size: int | None = None
    precision: Literal["auto", "no", "bf16"] = "no"
    top_k: int = 1
    drop_uncertain: float = 0.0

    def __post_init__(self) -> None:
        require_counts("label", self, "count", "shard_size", "top_k")
        if not 0 <= self.drop_uncertain < 1:
            raise UserError(
                f"label.drop_uncertain is {self.drop_uncertain}; it is a share, from 0 to below 1."
            )


def settled(config: LabelStage, folder: StageFolder, device: torch.device) -> LabelStage:
    """The settings with the precision that `auto` means on this device."""
    if config.precision != "auto":
        return config
    precision = folder.decided("label.precision", lambda: native_precision(device))
    return replace(config, precision="bf16" if precision == "bf16" else "no")


class ScoredSample(NamedTuple):
    """A labelled sample and how uncertain it is as a whole."""

    sample: Labelled
    score: float


class Labeller:
    """Draws samples by number and labels them.

    Args:
        config: with a precision other than `auto`.

    Raises:
        UserError: `top_k` is beyond the label set.
    """

    def __init__(
        self, config: LabelStage, generator: FeatureGenerator, teacher: FewShotCNN, labels: LabelSet
    ) -> None:
        assert config.precision != "auto"
        if config.top_k > len(labels):
            raise UserError(
                f"label.top_k is {config.top_k}, but the label set has {len(labels)} classes."
            )
        self.config, self.generator, self.teacher, self.labels = config, generator, teacher, labels
        self.device = generator.device
        at_once = teacher.samples_at_once(self.device)
        beside = 0 if at_once else teacher.widest
        self.batch_size = config.batch_size or sample_batch_size(generator, beside)
        # Four times what it holds at once.
        features = self.batch_size * feature_floats(generator)
        self.batch_bytes = 16 * (features + (at_once or self.batch_size) * teacher.widest)

    @staticmethod
    def load(config: LabelStage, inputs: Mapping[str, Path], device: torch.device) -> "Labeller":
        """Read the inputs `generator`, `teacher` and `labels`."""
        generator = load_generator(inputs["generator"], device)
        labels = LabelSet.load(inputs["labels"])
        teacher = load_teacher(inputs["teacher"], generator, labels.names)
        return Labeller(config, generator, teacher, labels)

    def batches(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of samples that are made at once."""
        return chunks(self.generator, numbers, self.batch_size)

    def inputs(self, numbers: list[int]) -> Latents:
        """What samples begin with, on the CPU."""
        return self.generator.random_inputs(self.config.seed, numbers)

    @torch.no_grad()
    def __call__(self, inputs: Latents) -> list[ScoredSample]:
        """Label the samples of these inputs."""
        config = self.config
        latents = self.generator.latents(inputs, config.truncation)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            images, features = self.generator.synthesise(latents)
            members = self.teacher(features).float().softmax(2)
        shares, classes = members.mean(1).topk(config.top_k, dim=1)
        shares = (shares * 255 + 0.5).to(torch.uint8)
        ranked = torch.stack([classes.to(torch.uint8), shares], 2).flatten(1, 2)
        columns = (to_uint8(images).cpu(), ranked.cpu(), image_score(uncertainty(members)).tolist())
        return [
            ScoredSample(Labelled(image, planes[0], planes[1], planes[2:]), score)
            for image, planes, score in zip(*columns, strict=True)
        ]

    def encode(self, numbered: tuple[int, ScoredSample]) -> Encoded:
        """A sample and its number as files."""
        number, (sample, score) = numbered
        return encode(number, sample, score, self.labels)


def label_samples(config: LabelStage, folder: StageFolder) -> Result:
    """Run the stage: writes shards, `pseudo_labels.json` and `pseudo_labels.png`.

    Reads the inputs `generator`, `teacher` and `labels`. Finished shards of an interrupted run stay.
    """
    state = PartialState()
    config = settled(config, folder, state.device)
    labeller = Labeller.load(config, folder.inputs, state.device)
    shards = range(-(-config.count // config.shard_size))
    missing = [n for n in shards if not (folder.path / shard_name(n)).exists()]
    if len(missing) < len(shards):
        state.print(f"label: {len(shards) - len(missing)} of {len(shards)} shards are there")
    if missing and state.is_main_process:
        _check_space(labeller, folder.path, len(missing) * config.shard_size)
    state.wait_for_everyone()  # all ranks have seen the same shards
    produce(labeller, missing[state.process_index :: state.num_processes], folder.path)
    state.wait_for_everyone()
    if not state.is_main_process:
        return Result([], {})

    scores = read_scores(folder.path, len(shards))
    dropped = most_uncertain(scores, config.drop_uncertain)
    index = {
        "count": config.count,
        "per_shard": config.shard_size,
        "classes": labeller.labels.names,
        "top_k": config.top_k,
        "dropped": dropped,
    }
    write_json(folder.path / INDEX, index)
    _show(folder.path, labeller.labels, scores)
    figures = {
        "images": config.count - len(dropped),
        "dropped": len(dropped),
        "uncertainty": sum(scores) / len(scores),
    }
    return Result([INDEX, SHEET, *(shard_name(n) for n in shards)], figures)


def produce(labeller: Labeller, shards: Sequence[int], folder: Path) -> None:
    """The line: random inputs -> labelled samples -> PNG files -> shards, all stations at work at once.

    Args:
        shards: numbers of the shards to make.
        folder: where they go.
    """
    state = PartialState()
    content = {shard: _numbers(labeller.config, shard) for shard in shards}
    batches = [batch for numbers in content.values() for batch in labeller.batches(numbers)]

    def write(shard: tuple[int, list[Encoded]]) -> None:
        write_shard(folder / shard_name(shard[0]), shard[1])

    with (
        batch_workers(labeller.device, labeller.batch_bytes) as (workers, count),
        ThreadPoolExecutor(_THREADS) as helpers,
        ThreadPoolExecutor(1) as writer,
    ):
        inputs = prefetch(helpers, labeller.inputs, batches, 2 * count)
        samples = chain.from_iterable(prefetch(workers, labeller, inputs, count))
        numbered = zip(chain.from_iterable(batches), samples, strict=True)
        encoded = prefetch(helpers, labeller.encode, numbered, _AHEAD)
        shown = tqdm(
            encoded, total=sum(map(len, batches)), unit="img", disable=not state.is_main_process,
            desc="label" + f", 1 of {state.num_processes} processes" * (state.num_processes > 1),
        )  # fmt: skip
        stream = iter(shown)
        whole = ((n, list(islice(stream, len(numbers)))) for n, numbers in content.items())
        for _ in prefetch(writer, write, whole, 1):
            pass  # written


def _numbers(config: LabelStage, shard: int) -> range:
    """Numbers of a shard's samples."""
    first = shard * config.shard_size
    return range(first, min(first + config.shard_size, config.count))


def _check_space(labeller: Labeller, folder: Path, count: int) -> None:
    """Refuse before the work starts what the disk has no room for, judged by one batch.

    Raises:
        UserError: there is not enough room.
    """
    numbers = next(labeller.batches(range(labeller.config.count)))
    samples = labeller(labeller.inputs(numbers))
    files = [labeller.encode(item).files for item in zip(numbers, samples, strict=True)]
    bytes_each = sum(len(content) for file in files for content in file.values()) / len(files)
    needed, free = 1.1 * bytes_each * count, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"label.count: {count} samples need about {needed / 2**30:.1f} GiB in {folder}, where "
            f"{free / 2**30:.1f} GiB are free; make room, lower label.count or change run.dir."
        )


def _show(folder: Path, labels: LabelSet, scores: list[float]) -> None:
    """The most certain, the middle and the most uncertain samples: a person sees what is kept."""
    store = PseudoLabels(folder)
    ranked = sorted(range(len(scores)), key=lambda i: scores[i])
    middle = max(0, (len(ranked) - _PER_GROUP) // 2)
    columns = {}
    for name, numbers in (
        ("certain", ranked[:_PER_GROUP]),
        ("middle", ranked[middle : middle + _PER_GROUP]),
        ("uncertain", ranked[-_PER_GROUP:]),
    ):
        items = [store.sample(number) for number in numbers]
        columns[name] = [to_array(item.image) for item in items]
        columns[f"{name}, label"] = [labels.paint(item.mask.numpy()) for item in items]
    save_sheet(grid(columns, labels), folder / SHEET)
