"""Weights and training state without pickle.

Weights are a safetensors file. A training state is a tree of nested dicts, lists, scalars and tensors
in one such file: the tensors lie in it by number; the shape of the tree is JSON in its metadata. A
checkpoint appears whole or not at all, and a damaged one is passed over for the one before it.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import UserError
from common.files import atomic_write


def _flatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = str(len(tensors))
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(node, dict):  # pairs, since JSON would turn integer keys into strings
        return {"dict": [[key, _flatten(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return {"list": [_flatten(value, tensors) for value in node]}
    return {"value": node}


def _unflatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(value, tensors) for key, value in content}
    if kind == "list":
        return [_unflatten(value, tensors) for value in content]
    return content


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a tree of tensors and JSON values."""
    tensors: dict[str, Tensor] = {}
    tree = _flatten(state, tensors)
    with atomic_write(path) as partial:
        save_file(tensors, partial, {"tree": json.dumps(tree)})


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; raises SafetensorError if the file is damaged."""
    with safe_open(path, framework="pt") as handle:
        tree = json.loads(handle.metadata()["tree"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    return _unflatten(tree, tensors)


def is_state(path: Path) -> bool:
    """Whether `save_state` wrote a file."""
    try:
        with safe_open(path, framework="pt") as handle:
            return "tree" in (handle.metadata() or {})
    except (OSError, SafetensorError):
        return False


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a state dict."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(path) as partial:
        save_file(plain, partial)


def load_weights(network: nn.Module, path: Path, remedy: str) -> None:
    """Fill a network with what `save_weights` wrote.

    Raises:
        UserError: the file cannot be read or is another network's; says the remedy.
    """
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        told = textwrap.shorten(str(error), 300)  # PyTorch names every tensor, line by line
        raise UserError(f"{path} cannot be read ({told}); {remedy}.") from error


class Checkpoints:
    """Numbered training states in a folder; keeps the newest few."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def _paths(self) -> list[Path]:
        """Newest first."""
        found = self.folder.glob("state-*.safetensors")
        return sorted(found, key=lambda p: int(re.findall(r"\d+", p.name)[0]), reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        save_state(self.folder / f"state-{step}.safetensors", state)
        for path in self._paths()[self.keep :]:
            path.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None."""
        for path in self._paths():
            try:
                return load_state(path)
            except (SafetensorError, KeyError, ValueError, TypeError) as error:
                print(f"warning: {path} is damaged ({error}); the checkpoint before it is used.")
        return None
