"""Stage `label`: fresh samples with the teacher's labels, thousands of them.

Every sample is a pure function of (generator, teacher, seed, index), and a shard is always made in the same
batches, so that its bytes do not depend on how many processes shared the work. It is a production line:
random inputs are drawn ahead, PNG encoding runs in background threads, and finished shards are written
while the next batch is computed.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

from accelerate import PartialState
from tqdm import tqdm

from common.errors import UserError
from common.files import write_json
from common.prefetch import prefetch
from common.stage_folder import Result, StageFolder
from datasets.labels import LabelSet
from datasets.pseudo_labels import (
    AGREEMENT,
    INDEX,
    Encoded,
    PseudoLabels,
    most_uncertain,
    read_scores,
    shard_name,
    write_shard,
)
from datasets.sheets import grid, save_sheet, to_array
from teacher.consensus import OpenStudent
from teacher.generators.sampling import batch_workers
from teacher.labeller import Labeller, LabelStage, LabelTogether, open_labeller

SHEET = "pseudo_labels.png"
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 64  # samples that wait for their files, at most, beside a batch
_PER_GROUP = 8


def label_samples(
    config: LabelStage | LabelTogether, folder: StageFolder, open_student: OpenStudent | None = None
) -> Result:
    """Run the stage: writes shards, `pseudo_labels.json` and `pseudo_labels.png`.

    Reads the inputs `generator`, `teacher` and `labels` and, in a later round, `student_before`. Finished
    shards of an interrupted run stay.

    Args:
        open_student: reads the student of the round before; needed in later rounds only.
    """
    state = PartialState()
    labeller = open_labeller(config, folder, state.device, open_student)
    config = labeller.config
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
    if labeller.together:
        agreement = read_scores(folder.path, len(shards), AGREEMENT)
        figures["agreement"] = sum(agreement) / len(agreement)
        print(
            f"label: teacher and student agree on {100 * figures['agreement']:.1f} % of the pixels"
        )
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
