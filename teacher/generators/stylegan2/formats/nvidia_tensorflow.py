"""Pickles of NVIDIA's TensorFlow code (stylegan2, stylegan2-ada): the three networks G, D, Gs."""

from typing import Any

import numpy as np
import torch

from teacher.generators.stylegan2.formats.base import (
    MAX_DEPTH,
    Checkpoint,
    CheckpointFile,
    Naming,
    rename,
)
from teacher.generators.stylegan2.formats.safe_pickle import Array, Record, Refusal

_CONSTANT = "synthesis/4x4/Const/const"
_NAMING = Naming(
    mapping=lambda i: f"mapping/Dense{i}/",
    layer=lambda k, r: f"synthesis/{r}x{r}/{('Conv1', 'Conv0_up')[k % 2] if k else 'Conv'}/",
    noise=lambda k, r: f"synthesis/noise{k}",
    to_rgb=lambda i, r: f"synthesis/{r}x{r}/ToRGB/",
    weight="weight",
    style_weight="mod_weight",
    style_bias="mod_bias",
    strength="noise_strength",
    layer_bias="bias",
    rgb_bias="bias",
    constant=_CONSTANT,
    w_mean="dlatent_avg",
)


def claims(file: CheckpointFile) -> bool:
    """Whether it is a pickle of a tuple of networks."""
    content = None if file.is_torch else file.content
    return isinstance(content, tuple) and any(isinstance(x, Record) for x in content)


def read(file: CheckpointFile) -> Checkpoint:
    """Read Gs, the moving average of G.

    Raises:
        Refusal: the networks are not G, D and Gs, or Gs is conditional or not StyleGAN2.
    """
    network = file.content[-1]
    if not isinstance(network, Record) or len(file.content) != 3:
        raise Refusal("it does not hold the three networks G, D, Gs")
    tensors = {}
    for name, value in _variables(network).items():
        place, _, kind = name.rpartition("/")
        tensor = torch.from_numpy(np.array(value, np.float32))
        if kind in ("weight", "mod_weight"):
            # TensorFlow keeps [height, width, in, out] and [in, out].
            tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
            if place.endswith("Conv0_up") and kind == "weight":
                tensor = tensor.flip(2, 3)  # it convolves where torch correlates
        elif kind == "mod_bias":
            tensor = tensor + 1
        tensors[name] = tensor
    if _CONSTANT not in tensors:
        raise Refusal("its generator is not StyleGAN2 (StyleGAN1 and older are not read)")
    if "mapping/LabelConcat/weight" in tensors:
        raise Refusal("its generator is conditional; take an unconditional one")
    tensors.pop("lod", None)
    return rename(tensors, _NAMING, "NVIDIA TensorFlow")


def _variables(network: Record, prefix: str = "", depth: int = 0) -> dict[str, np.ndarray]:
    """Variables of a TensorFlow network and of the networks in it."""
    if depth > MAX_DEPTH:
        raise Refusal("its networks are nested without end")
    state: Any = network.state
    found = {}
    for name, value in state["variables"]:
        if not isinstance(value, Array):
            raise Refusal(f"{prefix}{name} is not an array")
        found[f"{prefix}{name}"] = value.value
    for name, component in dict(state["components"]).items():
        found |= _variables(component, f"{prefix}{name}/", depth + 1)
    return found
