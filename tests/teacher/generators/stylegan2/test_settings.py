"""Settings beside the tensors: each is honoured, or refused by its name."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import UserError
from teacher.generators.stylegan2.formats import read_checkpoint
from tests.teacher.generators.stylegan2.foreign import (
    low_pass_filter,
    nvidia_modules,
    rosinality_tensors,
    write_nvidia,
)
from tests.teacher.generators.stylegan2.original import Tensors, make_tensors


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return make_tensors()


def part(network: Any, place: str) -> Any:
    for name in place.split("."):
        network = network._modules[name]
    return network


Change = Callable[[Any], object]


def changed(place: str, **settings: object) -> Change:
    def change(network: Any) -> None:
        vars(part(network, place)).update(settings)

    return change


def everywhere(kind: str, **settings: object) -> Change:
    def change(network: Any) -> None:
        for name, module in network.named_modules():
            if name.rpartition(".")[2] == kind:
                vars(module).update(settings)

    return change


def without(place: str, name: str) -> Change:
    def change(network: Any) -> None:
        module = part(network, place)
        (module._buffers if name in module._buffers else module._parameters).pop(name)

    return change


def buffer(place: str, name: str, value: Tensor) -> Change:
    return lambda network: part(network, place)._buffers.update({name: value})


def written(
    tensors: Tensors, path: Path, monkeypatch: pytest.MonkeyPatch, *changes: Change
) -> Path:
    network = nvidia_modules(tensors)
    for change in changes:
        change(network)
    return write_nvidia(path, tensors, monkeypatch, content={"G_ema": network})


REFUSED: dict[str, tuple[list[Change], str]] = {
    "another activation": ([everywhere("conv1", activation="tanh")], "activation tanh"),
    "two activations": ([changed("synthesis.b8.conv0", activation="relu")], "activation"),
    "a mapping's activation": ([changed("mapping.fc0", activation="swish")], "activation swish"),
    "a gain": ([changed("synthesis.b16.conv1", act_gain=2.0)], "b16.conv1 has the gain"),
    "no doubling": ([changed("synthesis.b16.conv0", up=1)], "b16.conv0 has up 1"),
    "a padding": ([changed("synthesis.b16.conv0", padding=0)], "b16.conv0 has padding 0"),
    "resnet": ([changed("synthesis.b16", architecture="resnet")], "architecture resnet"),
    "some noise": ([changed("synthesis.b16.conv1", use_noise=False)], "noise inputs"),
    "two filters": (
        [buffer("synthesis.b16.conv0", "resample_filter", torch.ones(4, 4) / 16)],
        "another low-pass filter",
    ),
    "a loud filter": (
        [buffer("synthesis.b16.conv0", "resample_filter", torch.ones(4, 4))], "sum to 16",
    ),
    "a filter that is no product": (
        [buffer("synthesis.b8.conv0", "resample_filter", torch.eye(4) / 4)],
        "along both sides",
    ),
    "a limit below zero": ([changed("synthesis.b16.conv1", conv_clamp=-1)], "conv_clamp"),
    "a limit that is a text": ([changed("synthesis.b16.conv1", conv_clamp="x")], "conv_clamp"),
    "a gain that is no number": (
        [changed("synthesis.b16.torgb", weight_gain=float("nan"))], "weight_gain",
    ),
    "classes without an embedding": ([lambda n: n.__dict__.update(c_dim=10)], "10 classes"),
    "values that are no numbers": (
        [lambda n: part(n, "synthesis.b8.conv0").weight.data.fill_(math.nan)], "no finite numbers",
    ),
    "an infinite value": (
        [lambda n: part(n, "mapping.fc1").bias.data.fill_(math.inf)], "no finite numbers",
    ),
    "four channels": (
        [lambda n: part(n, "synthesis.b4.torgb")._parameters.update(
            weight=nn.Parameter(torch.ones(4, 24, 1, 1)))],
        "4 channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_our_network_does_not_do_is_refused_by_name(
    name: str, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, said = REFUSED[name]
    network = make_tensors()
    path = written(network, tmp_path / "net.pkl", monkeypatch, *changes)
    with pytest.raises(UserError, match=said) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_gains_of_linear_maps_are_worked_into_the_weights(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = read_checkpoint(written(tensors, tmp_path / "a", monkeypatch)).weights
    changes = [
        changed("mapping.fc1", weight_gain=0.02 / math.sqrt(12), bias_gain=0.03),
        changed("synthesis.b8.conv0.affine", weight_gain=2 / math.sqrt(12), bias_gain=0.5),
        changed("synthesis.b16.torgb", weight_gain=4 / math.sqrt(16)),
    ]
    found = read_checkpoint(written(tensors, tmp_path / "b", monkeypatch, *changes)).weights
    factors = {
        "mapping_layers.1.weight": 2.0, "mapping_layers.1.bias": 3.0,
        "layers.1.conv.affine.weight": 2.0, "layers.1.conv.affine.bias": 0.5,
        "to_rgb.2.conv.weight": 4.0,
    }  # fmt: skip
    for name, tensor in plain.items():
        assert torch.allclose(found[name], tensor * factors.get(name, 1.0), rtol=1e-5), name


def test_limits_of_each_layer(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = read_checkpoint(written(tensors, tmp_path / "a", monkeypatch)).config
    assert (alike.clamp, alike.clamps) == (256.0, None)
    changes = [
        changed("synthesis.b8.conv1", conv_clamp=0.5),
        changed("synthesis.b4.torgb", conv_clamp=None),
    ]
    config = read_checkpoint(written(tensors, tmp_path / "b", monkeypatch, *changes)).config
    assert config.clamps is not None
    assert config.clamps == (*[256.0] * 2, 0.5, *[256.0] * 6, None, *[256.0] * 4)
    assert [config.layer_clamp(k) for k in (0, 2, 9)] == [256.0, 0.5, None]


def test_relu_keeps_its_gain_and_linear_has_none(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for activation, gain in (("relu", math.sqrt(2)), ("linear", 1.0)):
        changes = [everywhere(k, activation=activation, act_gain=gain) for k in ("conv0", "conv1")]
        changes += [everywhere(f"fc{i}", activation="linear") for i in range(3)]
        config = read_checkpoint(
            written(tensors, tmp_path / activation, monkeypatch, *changes)
        ).config
        assert (config.activation, config.mapping_activation) == (activation, "linear")


def test_filters_of_layers_and_of_images(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    state = rosinality_tensors(tensors)
    for name in state:
        if name.endswith("blur.kernel"):
            state[name] = 4 * torch.outer(taps, taps)
    torch.save({"g_ema": state}, tmp_path / "a.pt")
    config = read_checkpoint(tmp_path / "a.pt").config
    assert config.filter == pytest.approx((0.25, 0.5, 0.25))
    assert config.image_filter == (1.0, 3.0, 3.0, 1.0)
    assert torch.allclose(low_pass_filter().sum(), torch.ones(()))


def test_a_grey_generator_draws_three_equal_channels(tmp_path: Path) -> None:
    tensors = make_tensors()
    for name in [*tensors]:
        if ".torgb." in name and "affine" not in name:
            tensors[name] = tensors[name][:1]
    state = rosinality_tensors(tensors)
    torch.save({"g_ema": state}, tmp_path / "grey.pt")
    checkpoint = read_checkpoint(tmp_path / "grey.pt")
    weight = checkpoint.weights["to_rgb.1.conv.weight"]
    assert torch.equal(weight[0], weight[2]) and any("grey" in note for note in checkpoint.notes)
