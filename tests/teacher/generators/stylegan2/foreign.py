"""Generator files as the originals write them: the tensors of `original` in each format."""

import argparse
import pickle
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.teacher.generators.stylegan2.original import Tensors


def low_pass_filter() -> torch.Tensor:
    """[1, 3, 3, 1] in both directions, as upfirdn2d.setup_filter makes it."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def _fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Put a module into place for the time of pickling, so that names are written as theirs."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        parent = ".".join(parts[:i])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for key, value in members.items():
        value.__module__, value.__qualname__ = name, key
        setattr(sys.modules[name], key, value)


class EasyDict(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _reconstruct_persistent_obj(meta: object) -> None:
    raise AssertionError("pickled, never called")


class Persistent(nn.Module):
    """A module that pickles its source and its state, as torch_utils.persistence makes them."""

    def __init__(self, class_name: str, **attributes: Any) -> None:
        super().__init__()
        self.class_name = class_name
        self._init_args, self._init_kwargs = (), EasyDict(attributes)
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class", "version": 6, "module_src": "import os\nraise SystemExit('executed')",
            "class_name": self.class_name, "state": dict(self.__dict__),
        }  # fmt: skip
        return _reconstruct_persistent_obj, (EasyDict(meta),), None


def nvidia_modules(tensors: Tensors, c_dim: int = 0, architecture: str = "skip") -> Persistent:
    """The tree of modules that NVIDIA's PyTorch code pickles."""
    width = tensors["mapping.fc0.weight"].shape
    root = Persistent("Generator", z_dim=width[1], w_dim=width[0], c_dim=c_dim, num_ws=10)
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        place = root
        for depth, part in enumerate(path):
            if part not in place._modules:
                extra: dict[str, Any] = (
                    {"architecture": architecture} if depth == 1 and path[0] != "mapping" else {}
                )
                is_conv = depth == 2 and part.startswith("conv")
                extra |= {"act_gain": np.sqrt(2)} if is_conv else {}
                extra |= {"conv_clamp": 256} if depth == 2 else {}
                place.add_module(part, Persistent(part.capitalize(), **extra))
            place = cast(Persistent, place._modules[part])
        if last in ("w_avg", "noise_const"):
            place.register_buffer(last, tensor)
        else:
            place.register_parameter(last, nn.Parameter(tensor))
        if last == "weight" and "mapping" not in name and "affine" not in name:
            place.register_buffer("resample_filter", low_pass_filter())
    return root


def fake_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put NVIDIA's modules into place."""
    _fake(
        monkeypatch, "torch_utils.persistence",
        _reconstruct_persistent_obj=_reconstruct_persistent_obj,
    )  # fmt: skip
    _fake(monkeypatch, "dnnlib.util", EasyDict=EasyDict)


def write_nvidia(
    path: Path,
    tensors: Tensors,
    monkeypatch: pytest.MonkeyPatch,
    content: object = None,
    **options: Any,
) -> Path:
    fake_nvidia(monkeypatch)
    network = nvidia_modules(tensors, **options)
    settings = EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=64)
    whole = {"training_set_kwargs": settings, "G": network, "D": None, "G_ema": network}
    path.write_bytes(pickle.dumps(whole if content is None else content))
    return path


def rosinality_tensors(tensors: Tensors, noise: bool = True) -> Tensors:
    """The same generator under rosinality's names."""
    made: Tensors = OrderedDict()
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "mapping":
            if parts[1] != "w_avg":
                made[f"style.{int(parts[1][2:]) + 1}.{parts[2]}"] = tensor
            continue
        if parts[2] == "const":
            made["input.input"] = tensor[None]
            continue
        level = int(parts[1][1:]).bit_length() - 1  # log2 of the resolution
        kind, rest = parts[2], ".".join(parts[3:])
        if kind == "torgb":
            place = "to_rgb1" if level == 2 else f"to_rgbs.{level - 3}"
        else:
            number = 0 if level == 2 else 2 * level - 5 + int(kind[-1])
            place = f"convs.{number - 1}" if number else "conv1"
        theirs = {
            "weight": "conv.weight", "affine.weight": "conv.modulation.weight",
            "affine.bias": "conv.modulation.bias", "noise_strength": "noise.weight",
            "bias": "bias" if kind == "torgb" else "activate.bias",
        }  # fmt: skip
        if rest == "noise_const":
            if noise:
                made[f"noises.noise_{number}"] = tensor[None, None]
        elif rest == "weight":
            made[f"{place}.{theirs[rest]}"] = tensor[None]
        elif rest == "noise_strength":
            made[f"{place}.{theirs[rest]}"] = tensor.view(1)
        elif kind == "torgb" and rest == "bias":
            made[f"{place}.bias"] = tensor.view(1, -1, 1, 1)
        else:
            made[f"{place}.{theirs[rest]}"] = tensor
        if kind == "conv0" and rest == "weight":
            made[f"{place}.conv.blur.kernel"] = 4 * low_pass_filter()
        if kind == "torgb" and level > 2 and rest == "weight":
            made[f"{place}.upsample.kernel"] = 4 * low_pass_filter()
    return made


def write_rosinality(
    path: Path, tensors: Tensors, training: bool = False, noise: bool = True, legacy: bool = False
) -> Path:
    state, content = rosinality_tensors(tensors, noise), dict[str, Any]()
    if training:
        network = nn.Linear(2, 2)
        optimiser = torch.optim.Adam(network.parameters())
        network(torch.ones(1, 2)).sum().backward()
        optimiser.step()
        content = {
            "g": state, "d": network.state_dict(), "g_ema": state,
            "g_optim": optimiser.state_dict(), "d_optim": optimiser.state_dict(),
            "args": argparse.Namespace(size=64, batch=16, path="lmdb"), "ada_aug_p": 0.1,
        }  # fmt: skip
    else:
        content = {"g_ema": state, "latent_avg": tensors["mapping.w_avg"]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Network:
    """A network as NVIDIA's TensorFlow code pickles it."""

    def __init__(self, name: str, variables: dict[str, Any], **components: Any) -> None:
        self.name, self.variables, self.components = name, variables, components

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": 4, "name": self.name, "static_kwargs": EasyDict(resolution=64),
            "components": EasyDict(self.components), "build_module_src": "raise SystemExit",
            "build_func_name": "G_main", "variables": list(self.variables.items()),
        }  # fmt: skip


Arrays = dict[str, npt.NDArray[np.float32]]


def tensorflow_variables(tensors: Tensors) -> tuple[Arrays, Arrays, Arrays]:
    """The same generator under NVIDIA's TensorFlow names and in its layout."""
    main, mapping, synthesis = Arrays(), Arrays(), Arrays()
    for name, tensor in tensors.items():
        value, parts = tensor.numpy(), name.split(".")
        if name == "mapping.w_avg":
            main["dlatent_avg"] = value
        elif parts[0] == "mapping":
            place = f"Dense{parts[1][2:]}/{parts[2]}"
            mapping[place] = value.T if parts[2] == "weight" else value
        elif parts[2] == "const":
            synthesis["4x4/Const/const"] = value[None]
        else:
            r, rest = int(parts[1][1:]), ".".join(parts[3:])
            kind = {"torgb": "ToRGB", "conv0": "Conv0_up", "conv1": "Conv1"}[parts[2]]
            kind = "Conv" if r == 4 and kind == "Conv1" else kind
            place = f"{r}x{r}/{kind}/"
            if rest == "noise_const":
                level = r.bit_length() - 1
                number = 0 if r == 4 else 2 * level - 5 + int(parts[2][-1])
                synthesis[f"noise{number}"] = value[None, None]
            elif rest == "weight":
                flipped = value[:, :, ::-1, ::-1] if kind == "Conv0_up" else value
                synthesis[place + "weight"] = np.ascontiguousarray(flipped.transpose(2, 3, 1, 0))
            elif rest == "affine.weight":
                synthesis[place + "mod_weight"] = value.T
            elif rest == "affine.bias":
                synthesis[place + "mod_bias"] = value - 1
            else:
                synthesis[place + rest] = value
    return main, mapping, synthesis


def fake_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put NVIDIA's modules for TensorFlow into place."""
    _fake(monkeypatch, "dnnlib.util", EasyDict=EasyDict)
    _fake(monkeypatch, "dnnlib.tflib.network", Network=Network)


def write_tensorflow(
    path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch, drop: Sequence[str] = ()
) -> Path:
    fake_tensorflow(monkeypatch)
    main, mapping, synthesis = tensorflow_variables(tensors)
    synthesis = {k: v for k, v in synthesis.items() if k not in drop}
    parts = {"mapping": Network("m", mapping), "synthesis": Network("s", synthesis)}
    average = Network("Gs", {"lod": np.zeros((), np.float32), **main}, **parts)
    path.write_bytes(pickle.dumps((Network("G", {}), Network("D", {}), average), protocol=4))
    return path
