"""Stage `label`: fresh samples with the teacher's labels, thousands of them.

Every sample is a pure function of (generator, teacher, seed, index), and a shard is always made in
the same batches, so that its bytes do not depend on how many processes shared the work.
"""

from dataclasses import dataclass

import torch
from accelerate import PartialState
from tqdm import tqdm

from datasets.artifacts import Result, StageFolder, UserError, write_json
from datasets.labels import LabelSet
from datasets.pseudo_labels import INDEX, Labelled, shard_name, write_shard
from teacher.fewshot import FewShotCNN, load_teacher
from teacher.generators import load_generator
from teacher.sampling import latents_of_seed, to_uint8
from teacher.stylegan2 import Generator


@dataclass(frozen=True)
class LabelStage:
    """Stage `label`.

    Args:
        count: samples to label.
        seed: of the samples; one never used for annotation.
        truncation: psi of the samples; 1 for full variety.
        per_shard: samples in a shard.
        batch: samples at once; small ones stay in the processor's cache.
    """

    count: int = 4000
    seed: int = 1000
    truncation: float = 1.0
    per_shard: int = 250
    batch: int = 8


def label_samples(config: LabelStage, folder: StageFolder) -> Result:
    """Run the stage: writes shards and `pseudo_labels.json`.

    Reads the inputs `generator`, `teacher` and `labels`. Finished shards of an interrupted run stay.
    """
    state = PartialState()
    labels = LabelSet.load(folder.inputs["labels"])
    generator = load_generator(folder.inputs["generator"], state.device)
    teacher = load_teacher(folder.inputs["teacher"]).to(state.device)
    if teacher.first.channels != generator.feature_channels:
        raise UserError(
            "the teacher was fitted to features of another generator; run `teacher` again."
        )

    shards = range(-(-config.count // config.per_shard))
    missing = [n for n in shards if not (folder.path / shard_name(n)).exists()]
    if len(missing) < len(shards):
        state.print(f"label: {len(shards) - len(missing)} of {len(shards)} shards are there")
    state.wait_for_everyone()  # all ranks have seen the same shards
    mine = missing[state.process_index :: state.num_processes]
    bar = tqdm(
        total=len(mine) * config.per_shard, unit="img", desc="label",
        disable=not state.is_main_process,
    )  # fmt: skip
    for number in mine:
        first = number * config.per_shard
        indices = range(first, min(first + config.per_shard, config.count))
        samples = []
        for start in range(0, len(indices), config.batch):
            batch = list(indices[start : start + config.batch])
            samples += label_batch(generator, teacher, config, batch)
            bar.update(len(batch))
        write_shard(folder.path / shard_name(number), first, samples, labels)
    bar.close()
    state.wait_for_everyone()
    if state.is_main_process:
        index = {"count": config.count, "per_shard": config.per_shard, "classes": labels.names}
        write_json(folder.path / INDEX, index)
    return Result([INDEX, *(shard_name(n) for n in shards)], {"images": config.count})


@torch.no_grad()
def label_batch(
    generator: Generator, teacher: FewShotCNN, config: LabelStage, indices: list[int]
) -> list[Labelled]:
    """Samples number `indices` with hard labels and the probability of each, 255 = one."""
    latents = latents_of_seed(generator, config.seed, config.truncation)
    images, features = generator.synthesis(*latents(indices))
    confidence, mask = teacher(features).softmax(1).max(1)
    columns = (
        to_uint8(images).cpu(),
        mask.to(torch.uint8).cpu(),
        (confidence * 255 + 0.5).to(torch.uint8).cpu(),
    )
    return [Labelled(*item) for item in zip(*columns, strict=True)]
