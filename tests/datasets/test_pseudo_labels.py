import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.files import write_json
from datasets.faces import render_faces
from datasets.labels import LabelSet
from datasets.pseudo_labels import (
    INDEX,
    Labelled,
    PseudoLabels,
    encode,
    most_uncertain,
    read_scores,
    shard_name,
    soft_labels,
    write_shard,
)


def make_store(
    folder: Path,
    labels: LabelSet,
    count: int = 10,
    per_shard: int = 4,
    top_k: int = 1,
    dropped: Sequence[int] = (),
) -> list[Labelled]:
    images, masks = render_faces(0, torch.arange(count), 16)
    planes = 2 * (top_k - 1)
    samples = [
        Labelled(p, m, torch.full_like(m, 5 * i), torch.stack([(m + j) % 8 for j in range(planes)]))
        if planes
        else Labelled(p, m, torch.full_like(m, 5 * i), m.new_empty(0, 16, 16))
        for i, (p, m) in enumerate(zip(images, masks, strict=True))
    ]
    encoded = [encode(i, sample, i / 10, labels) for i, sample in enumerate(samples)]
    for number, first in enumerate(range(0, count, per_shard)):
        write_shard(folder / shard_name(number), encoded[first : first + per_shard])
    about = {"count": count, "per_shard": per_shard, "top_k": top_k, "dropped": list(dropped)}
    write_json(folder / INDEX, about)
    return samples


@pytest.mark.parametrize("top_k", [1, 3])
def test_samples_come_back_in_any_order(tmp_path: Path, labels: LabelSet, top_k: int) -> None:
    samples = make_store(tmp_path, labels, top_k=top_k)
    store = PseudoLabels(tmp_path)
    assert len(store) == 10
    for i in (9, 0, 4, 3):
        for mine, theirs in zip(store[i], samples[i], strict=True):
            assert torch.equal(mine, theirs)


def test_dropped_samples_stay_in_the_shards_but_are_not_given(
    tmp_path: Path, labels: LabelSet
) -> None:
    samples = make_store(tmp_path, labels, dropped=(0, 5))
    store = PseudoLabels(tmp_path)
    assert len(store) == 8
    assert [int(store[i].confidence[0, 0]) // 5 for i in range(8)] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert torch.equal(store.sample(5).image, samples[5].image)
    assert read_scores(tmp_path, 3) == [i / 10 for i in range(10)]


def test_the_most_uncertain_share_is_named_in_order() -> None:
    assert most_uncertain([0.1, 0.9, 0.5, 0.8], 0.5) == [1, 3]
    assert most_uncertain([0.5, 0.5, 0.5, 0.1], 0.25) == [2]
    assert most_uncertain([0.5] * 9, 0.1) == []
    assert most_uncertain([0.5], 0.0) == []


def test_soft_labels_are_the_probabilities_within_a_step_of_eight_bits() -> None:
    torch.manual_seed(0)
    true = torch.randn(2, 5, 4, 4).mul(2).softmax(1)
    shares, classes = true.topk(5, dim=1)
    planes = torch.stack([classes, (shares * 255).round()], 2).flatten(1, 2).to(torch.uint8)
    mask, confidence, runners_up = planes[:, 0].long(), planes[:, 1] / 255, planes[:, 2:]
    assert (soft_labels(mask, confidence, runners_up, 5) - true).abs().max() < 1.5 / 255
    two = soft_labels(mask, confidence, runners_up[:, :2], 5)
    assert torch.allclose(two.sum(1), torch.ones(2, 4, 4))
    assert (two > 0).sum(1).max() == 2
    hot = soft_labels(mask, confidence, runners_up, 5, temperature=2.0)
    stored = (planes[:, 1::2] / 255).sqrt()  # ranked by class; a root flattens them
    softened = torch.zeros_like(true).scatter(1, classes, stored / stored.sum(1, keepdim=True))
    assert torch.allclose(hot, softened, atol=1e-5)
    mask[0, 0, 0] = 255  # moved in from beyond the border
    outside = soft_labels(mask, confidence, runners_up, 5)
    assert outside[0, :, 0, 0].sum() == 0 and outside.isfinite().all()


def test_any_tool_can_read_a_shard(tmp_path: Path, labels: LabelSet) -> None:
    samples = make_store(tmp_path, labels)
    with zipfile.ZipFile(tmp_path / shard_name(1)) as shard:
        assert all(e.compress_type == zipfile.ZIP_STORED for e in shard.infolist())
        mask = Image.open(io.BytesIO(shard.read("masks/0000005.png")))
    assert mask.mode == "P"
    assert np.array_equal(np.array(mask), samples[5].mask.numpy())


def test_bytes_depend_on_contents_alone(tmp_path: Path, labels: LabelSet) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    make_store(tmp_path / "a", labels)
    make_store(tmp_path / "b", labels)
    for name in (shard_name(0), shard_name(2)):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_truncated_and_missing_shards_are_named(tmp_path: Path, labels: LabelSet) -> None:
    make_store(tmp_path, labels)
    path = tmp_path / shard_name(1)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"shard-00001\.zip is damaged"):
        PseudoLabels(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"shard-00001\.zip is damaged or missing"):
        PseudoLabels(tmp_path)


def test_a_flipped_byte_inside_is_named(tmp_path: Path, labels: LabelSet) -> None:
    make_store(tmp_path, labels)
    path = tmp_path / shard_name(0)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 20
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))
    store = PseudoLabels(tmp_path)
    with pytest.raises(UserError, match=r"shard-00000\.zip: images/0000000\.png is damaged"):
        store[0]


def test_a_forked_reader_does_not_disturb_its_parent(tmp_path: Path, labels: LabelSet) -> None:
    """Both read the shard that was open before the fork; a shared file position would mix them up."""
    samples = make_store(tmp_path, labels, count=40, per_shard=40)
    store = PseudoLabels(tmp_path)
    store[0]
    loader = torch.utils.data.DataLoader(
        store, batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for number, theirs in enumerate(loader):
        assert torch.equal(torch.as_tensor(theirs[0]), samples[number].image)
        assert torch.equal(store[39 - number].image, samples[39 - number].image)


def test_a_store_of_more_shards_than_a_process_may_open_is_read(
    tmp_path: Path, labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_store(tmp_path, labels, per_shard=1)
    monkeypatch.setattr("datasets.pseudo_labels._OPEN", 3)
    store = PseudoLabels(tmp_path)
    files = psutil.Process()
    opened = files.num_fds()
    for i in (*range(10), 0):
        assert torch.equal(store[i].image, samples[i].image)
        assert files.num_fds() <= opened + 3
