"""Read pickles of generators without running code from them.

A pickle is a program that may call any function of any module. Here it may name only what real generator
files name, and each name stands for a class or function of ours that holds data and does nothing else. A
file that names anything else, or whose data contradict themselves, is refused.
"""

import io
import math
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

_NUMBERS = "?bBhHiIlLqQefd"  # the dtypes, by their characters, that arrays in a file may have


class Refusal(Exception):
    """Why a file is refused; becomes a UserError that names the file."""


class PlainDict(dict[Any, Any]):
    """Stands for a dictionary with attributes; keeps only the items."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if state:
            raise Refusal("a dictionary in it carries a state")


class Record:
    """Stands for an object of a class that we do not have: its class's name and its state."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str = "", state: Any = None) -> None:
        self.kind, self.state = kind, state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """Stands for numpy.dtype: plain numbers only."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        self.dtype = np.dtype(str(code)[:8])
        if self.dtype.char not in _NUMBERS:
            raise Refusal(f"it holds an array of {self.dtype}, not of numbers")

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def read(self, data: bytes | str, shape: tuple[int, ...]) -> np.ndarray:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if len(raw) != math.prod(shape) * self.dtype.itemsize or min(shape, default=0) < 0:
            raise Refusal(f"an array of shape {shape} in it has {len(raw)} bytes")
        return np.frombuffer(raw, self.dtype).astype(self.dtype.newbyteorder("="))


class Array:
    """Stands for numpy.ndarray; `value` holds the numbers."""

    __slots__ = ("value",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        flat = dtype.read(data, shape)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    return dtype.read(data, ()).item()


class _Storage:
    """The bytes of an inner stream of torch, read when a tensor needs them."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def tensor(self) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # typed storages are old, and so are the files
            loaded = torch.load(io.BytesIO(self.raw), map_location="cpu", weights_only=True)
            if not isinstance(loaded, torch.storage.TypedStorage):
                raise Refusal("an inner stream in it is not the storage of a tensor")
            flat = torch.tensor([], dtype=loaded.dtype)
            return flat.set_(loaded.untyped(), 0, (loaded.size(),), (1,))


class LazyTensor:
    """Stands for a tensor: a view of a storage, made by `value`."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> None:
        self.storage, self.offset = storage, int(offset)
        self.shape, self.stride = tuple(map(int, shape)), tuple(map(int, stride))

    def value(self) -> Tensor:
        flat = self.storage.tensor()
        steps = zip(self.shape, self.stride, strict=True)
        last = self.offset + sum((size - 1) * step for size, step in steps)
        negative = min((*self.shape, *self.stride, self.offset), default=0) < 0
        if negative or last >= len(flat) or math.prod(self.shape) > len(flat):
            raise Refusal(f"a tensor of shape {self.shape} in it lies outside its storage")
        return flat.as_strided(self.shape, self.stride, self.offset).clone()


class _Known:
    """A function that files may call. It refuses a state, so that no file can change it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise Refusal("it tries to change a function")


def _network(meta: dict[str, Any]) -> Record:
    """A network that carries its own source: the source is dropped, the state is kept."""
    return Record(str(meta["class_name"]), meta["state"])


_NAMES: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": PlainDict,
    "dnnlib.tflib.network.Network": Record,
    "torch_utils.persistence._reconstruct_persistent_obj": _Known(_network),
    "torch._utils._rebuild_tensor_v2": _Known(LazyTensor),
    "torch._utils._rebuild_parameter": _Known(lambda tensor, *_: tensor),
    "torch.storage._load_from_bytes": _Known(_Storage),
    "torch.Size": _Known(tuple),
    "numpy.dtype": _Known(_Dtype),
    "numpy.ndarray": Array,
    "_codecs.encode": _Known(lambda text, *_: text.encode("latin1")),
}
for _package in ("numpy.core", "numpy._core"):
    _NAMES[f"{_package}.multiarray.scalar"] = _Known(_scalar)
    _NAMES[f"{_package}.multiarray._reconstruct"] = _Known(lambda *_: Array())
for _name in ("float16", "float32", "float64", "uint8", "int32", "int64", "bool"):
    _NAMES[f"torch.{_name}"] = _Known(lambda: None)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[f"{module}.{name}"]
        except KeyError:
            raise Refusal(
                f"it asks for {module}.{name}, which no generator needs; it may be hostile"
            ) from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise Refusal("it refers to data outside of it")


def read_pickle(path: Path) -> Any:
    """The data of a pickle: built-in types, `Record`, `Array`, `LazyTensor`.

    Raises:
        Refusal: it names something unknown or contradicts itself; any other exception: it is damaged.
    """
    with path.open("rb") as file:
        return _Reader(file, encoding="latin1").load()
