"""Damaged folders of teachers, inversion encoders and pseudo-labels: what they hold or one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from common.checkpoints import save_weights
from common.files import write_json
from datasets.labels import LabelSet
from datasets.pseudo_labels import INDEX, PseudoLabels
from student.predict.segmenter import Segmenter
from teacher.fewshot import (
    ARCHITECTURE,
    WEIGHTS,
    FewShotCNN,
    FewShotConfig,
    architecture_of,
    learned_from,
    load_teacher,
)
from teacher.generators.base import channels_of
from teacher.generators.inversion_encoder import InversionEncoder, load_inversion_encoder
from teacher.generators.registry import load_generator
from tests.conftest import Chain
from tests.datasets.test_pseudo_labels import make_store
from tests.mutations import check


@pytest.mark.parametrize(("name", "times"), [(ARCHITECTURE, 300), (WEIGHTS, 40)])
def test_teachers(chain: Chain, labels: LabelSet, tmp_path: Path, name: str, times: int) -> None:
    generator = load_generator(chain.generator)
    config = FewShotConfig((4, 4), (1, 1, 1))
    teacher = FewShotCNN(config, channels_of(generator), generator.resolution, len(labels))
    save_weights(tmp_path / WEIGHTS, teacher.state_dict())
    write_json(tmp_path / ARCHITECTURE, architecture_of(teacher, labels.names, [0, 2]))

    def load(_: Path) -> tuple[int, bool]:
        found = load_teacher(tmp_path, generator, labels.names)
        seen = learned_from(tmp_path)
        return found.first.size, all(type(number) is int for number in seen)

    check(tmp_path / name, load, lambda found: found == (16, True), times=times)


def test_inversion_encoders(chain: Chain, tmp_path: Path) -> None:
    generator = load_generator(chain.generator)
    blank = torch.zeros(8)
    encoder = InversionEncoder("resnet10t", generator.resolution, blank, blank)
    save_weights(tmp_path / "encoder.safetensors", encoder.state_dict())
    write_json(tmp_path / "encoder.json", {"network": "resnet10t", "generator": "ab" * 32})
    check(
        tmp_path / "encoder.json",
        lambda _: load_inversion_encoder(tmp_path, generator, "ab" * 32),
        lambda found: found.side == 16,
        times=100,
    )


def test_indices_of_pseudo_labels(tmp_path: Path, labels: LabelSet) -> None:
    make_store(tmp_path, labels, count=4, per_shard=2)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps(index))
    check(
        tmp_path / INDEX,
        lambda _: [item.mask.shape for item in map(PseudoLabels(tmp_path).sample, range(2))],
        lambda found: len(found) == 2,
    )


def test_labels_of_exports(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "export/student", tmp_path / "s")
    check(
        tmp_path / "s/labels.json",
        lambda _: Segmenter(tmp_path / "s", 1),
        lambda found: all(isinstance(name, str) for name in found.names),
        times=60,
    )
