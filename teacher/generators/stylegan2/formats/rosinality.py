"""Checkpoints of rosinality's stylegan2-pytorch: its state dict alone, under `g_ema` or `g`, or in a file
of pSp or e4e, whose decoder it is."""

from typing import Any

from teacher.generators.stylegan2.formats.base import (
    Checkpoint,
    CheckpointFile,
    Naming,
    Settings,
    rename,
)
from teacher.generators.stylegan2.formats.refusal import Refusal
from teacher.generators.stylegan2.formats.settings import filter_of_tensors
from teacher.generators.stylegan2.formats.state_dicts import find_state, is_tensor
from teacher.generators.stylegan2.formats.tensors import Changed, Lazy

_CONSTANT, _MEAN = "input.input", "latent_avg"
_NAMING = Naming(
    mapping=lambda i: f"style.{i + 1}.",
    layer=lambda k, r: f"convs.{k - 1}." if k else "conv1.",
    noise=lambda k, r: f"noises.noise_{k}",
    to_rgb=lambda i, r: f"to_rgbs.{i - 1}." if i else "to_rgb1.",
    weight="conv.weight",
    style_weight="conv.modulation.weight",
    style_bias="conv.modulation.bias",
    strength="noise.weight",
    layer_bias="activate.bias",
    rgb_bias="bias",
    constant=_CONSTANT,
    w_mean=_MEAN,
    may_lack_noise=True,
)


def claims(file: CheckpointFile) -> bool:
    """Whether a state dict in it has rosinality's names."""
    return find_state(file.content, _CONSTANT) is not None


def read(file: CheckpointFile) -> Checkpoint:
    """Read the generator; `latent_avg` is the mean of w, which files of a training lack.

    Raises:
        Refusal: its low-pass filters differ, or it keeps a mean of w for each layer.
    """
    found = find_state(file.content, _CONSTANT)
    assert found is not None
    tensors = dict(found.tensors)
    filters = {name: tensors.pop(name) for name in [*tensors] if name.endswith(".kernel")}
    mean: Any = found.beside.get(_MEAN)
    if _MEAN not in tensors and is_tensor(mean):
        tensors[_MEAN] = mean
    if _MEAN in tensors:
        tensors[_MEAN] = _one_mean(tensors[_MEAN])
    of_images = {name: tensor for name, tensor in filters.items() if ".upsample." in name}
    of_layers = {name: tensor for name, tensor in filters.items() if name not in of_images}
    settings = Settings(
        filter=filter_of_tensors(of_layers, 4.0),
        image_filter=filter_of_tensors(
            of_images, 4.0
        ),  # its code gives to-RGB layers the usual one
        notes=found.notes,
    )
    return rename(tensors, _NAMING, "rosinality stylegan2-pytorch", settings)


def _one_mean(mean: Lazy) -> Lazy:
    """The mean of w, of which pSp and e4e keep a copy for each layer.

    Raises:
        Refusal: the copies differ.
    """
    if len(mean.shape) != 2 or mean.shape[0] <= 1:
        return mean
    value = mean.value()
    if not (value == value[:1]).all():
        raise Refusal(f"its {_MEAN} has another mean of w for each layer")
    return Changed(mean, mean.shape[1:], lambda tensor: tensor[0])
