"""Two real processes against one: normalisation and losses see the batch as a whole."""

import copy
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torchmetrics.functional.classification import multiclass_jaccard_index

from common.losses import cross_entropy, dice, lovasz
from datasets import Dataset
from datasets.labels import LabelSet
from datasets.pseudo_labels import Labelled
from student.fit import validate
from student.parallel import share_batch_norm, total
from tests.conftest import LABELS


def make() -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1), BatchNormAct2d(6), nn.Conv2d(6, 4, 1),
    )  # fmt: skip
    images, weight = torch.randn(6, 3, 8, 8) * 3 + 1, torch.rand(6, 8, 8)
    target = torch.randint(0, 4, (6, 8, 8))
    target[:2] = 0  # the processes hold different classes
    return network, images, target, weight


def one_step(
    network: nn.Module, images: Tensor, target: Tensor, weight: Tensor, **sums: Any
) -> float:
    logits = network(images)
    losses = (each(logits, target, weight, 255, **sums) for each in (cross_entropy, dice, lovasz))
    loss = torch.stack([*losses]).sum()
    loss.backward()
    return loss.item()


def work(rank: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network, *batch = make()
    share_batch_norm(network, torch.device("cpu"))
    shared = DistributedDataParallel(network)
    loss = one_step(shared, *(t[3 * rank : 3 * rank + 3] for t in batch), total=total)
    state = {"loss": loss, "ranks": dist.get_world_size(), "weights": network.state_dict()}
    state["gradients"] = [p.grad for p in network.parameters()]
    torch.save(state, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    spawn(work, (str(tmp_path),), nprocs=2)
    network, *batch = make()
    before = copy.deepcopy(network.state_dict())
    loss = one_step(network, *batch)
    for rank in range(2):
        made = torch.load(tmp_path / f"{rank}.pt")
        assert made["ranks"] == 2
        assert abs(made["loss"] - loss) < 1e-5
        for mine, theirs in zip(made["gradients"], network.parameters(), strict=True):
            assert theirs.grad is not None and torch.allclose(mine, theirs.grad, atol=1e-5)
        for name, value in network.state_dict().items():
            assert torch.allclose(made["weights"][name], value, atol=1e-5), name
    assert not torch.equal(network.state_dict()["1.running_mean"], before["1.running_mean"])


class Tiny(Dataset[Any]):
    """Images with ignored pixels and a class that none shows; their number fits no chunk."""

    def __len__(self) -> int:
        return 123

    def __getitem__(self, index: int) -> Labelled:
        state = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 6, 5), generator=state, dtype=torch.uint8)
        mask = torch.randint(0, 7, (6, 5), generator=state, dtype=torch.uint8)
        mask[torch.rand(6, 5, generator=state) < 0.2] = 255
        return Labelled(image, mask, torch.full_like(mask, 255), mask.new_empty(0, 6, 5))


def guess(labels: LabelSet) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Conv2d(3, len(labels), 1)
    return nn.Sequential(Floats(), network)


class Floats(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 128 - 1


def measure(rank: int, folder: str, port: int) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    accelerator, labels = Accelerator(cpu=True), LabelSet.load(LABELS)
    assert accelerator.num_processes == 2
    figures, matrix = validate(accelerator, guess(labels), Tiny(), labels)
    torch.save((figures, matrix), f"{folder}/{rank}.pt")
    accelerator.end_training()


def test_figures_of_two_processes_are_those_of_torchmetrics(
    labels: LabelSet, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(measure, (str(tmp_path), port), nprocs=2)
    items = [Tiny()[i] for i in range(len(Tiny()))]
    truth = torch.stack([item.mask for item in items]).long()
    with torch.no_grad():
        said = guess(labels)(torch.stack([item.image for item in items])).argmax(1)
    oracle = multiclass_jaccard_index(said, truth, len(labels), average="none", ignore_index=255)
    for rank in range(2):
        figures, matrix = torch.load(tmp_path / f"{rank}.pt")
        assert figures["absent"] == [labels.names[7]]
        assert list(figures["iou"].values()) == pytest.approx(oracle[:7].tolist())
        assert matrix.sum() == (truth != 255).sum()  # every image once


def test_a_single_process_keeps_the_ordinary_layers() -> None:
    network = make()[0]
    share_batch_norm(network, torch.device("cpu"))
    assert type(network[1]) is nn.BatchNorm2d
    x = torch.ones(3)
    assert total(x) is x
