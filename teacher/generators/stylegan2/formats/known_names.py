"""What the names in a generator's pickle stand for; no code is run.

A pickle may name any function of any module. Here the names that real generator files need stand for
classes and functions of ours that hold data and do nothing else; every other name stands for an inert
placeholder, as in the discriminator's or a data set's part of a file. A file that names what runs code is
refused, whether it would call it or not.
"""

from collections.abc import Callable
from typing import Any

import torch

from teacher.generators.stylegan2.formats.pickle_stack import (
    Inert,
    Named,
    as_dict,
    as_key,
)
from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal
from teacher.generators.stylegan2.formats.tensors import (
    Array,
    Dtype,
    MetaTensor,
    TensorView,
)

# What runs code, reads files or ends the program.
_RUNNING_MODULES = {
    "os", "posix", "nt", "subprocess", "commands", "pty", "sys", "shutil", "socket", "runpy", "importlib",
    "imp", "ctypes", "code", "codeop", "webbrowser", "marshal", "multiprocessing", "asyncio", "pdb",
    "timeit", "pip", "_posixsubprocess", "signal", "urllib", "requests", "tempfile",
}  # fmt: skip
_RUNNING_BUILTINS = {
    "eval", "exec", "execfile", "compile", "__import__", "open", "file", "input", "raw_input",
    "breakpoint", "print", "exit", "quit", "reload", "help",
}  # fmt: skip
_DTYPES = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        "float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool",
    )
}  # fmt: skip
_STORAGES = {
    "HalfStorage": torch.float16, "FloatStorage": torch.float32, "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16, "ByteStorage": torch.uint8, "CharStorage": torch.int8,
    "ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
}  # fmt: skip


class Record:
    """Stands for an object of a class that we do not have: its class's name and its state."""

    def __init__(self, kind: str = "", state: Any = None) -> None:
        self.kind, self.state = kind, state

    def set_state(self, state: Any) -> None:
        self.state = state

    def part(self, name: str) -> dict[Any, Any]:
        """A dictionary of the state; empty where it is not there."""
        found = self.state.get(name) if isinstance(self.state, dict) else None
        return found if isinstance(found, dict) else {}


class StorageType:
    """Stands for a class of storages of PyTorch."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _network(meta: Any) -> Record:
    """A network that carries its own source: the source is dropped, the state is kept."""
    if not isinstance(meta, dict):
        raise Damaged("a network in it has no description")
    kind = meta.get("class_name")
    return Record(kind if isinstance(kind, str) else "", meta.get("state"))


def _scalar(dtype: Any, data: Any = None) -> Any:
    """A number of NumPy's as one of Python's."""
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes | str):
        return Inert("numpy.scalar")
    try:
        return Array((), dtype, False, data).numpy().item()
    except Refusal:
        return Inert("numpy.scalar")


def _encode(text: Any = "", encoding: Any = "latin1", *_: object) -> bytes:
    """Bytes, as protocols below 3 write them."""
    if not isinstance(text, str):
        raise Damaged("bytes in it are not written as a text")
    return text.encode("utf-8" if encoding in ("utf8", "utf-8") else "latin1")


def _bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    return bytes(data) if isinstance(data, bytes | list) else _encode(data, encoding)


def _reconstructed(kind: Any, base: Any = None, state: Any = None) -> Any:
    """An object of protocols 0 and 1: its class and, where that is derived from dict, the items."""
    made = kind() if isinstance(kind, Named) else Inert("object")
    if isinstance(made, dict) and isinstance(state, dict):
        made.update(state)
    return made


def _view(storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> TensorView:
    return TensorView(storage, offset, shape, stride)


def _untyped_view(
    storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: object
) -> TensorView:
    return TensorView(
        storage, offset, shape, stride, dtype if isinstance(dtype, torch.dtype) else None
    )


def _typed(function: Any, _: Any = None, arguments: Any = (), *__: object) -> Any:
    """A tensor of a class derived from Tensor, or with attributes."""
    known = isinstance(function, Named) and function.make in (_view, _untyped_view)
    return function(*arguments) if known else Inert("tensor")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None) -> Any:
    """An array of protocol 5."""
    made = Array(shape, dtype, order == "F", data)
    made.axes = axes
    return made


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": as_dict,
    "collections.defaultdict": lambda *_: {},
    "argparse.Namespace": Record,
    "builtins.set": lambda items=(): set(map(as_key, items)),
    "builtins.frozenset": lambda items=(): frozenset(map(as_key, items)),
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": complex,
    "builtins.list": lambda items=(): [*items],
    "builtins.tuple": lambda items=(): tuple(items),
    "builtins.dict": as_dict,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructed,
    "copyreg.__newobj__": lambda kind, *arguments: _reconstructed(kind),
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _untyped_view,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, shape, *_: MetaTensor(shape),
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": lambda sides=(): tuple(sides),
    "numpy.dtype": Dtype,
    "numpy.ndarray": Array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": lambda *_: Array(),
    "numpy.core.numeric._frombuffer": _from_buffer,
}
_SUFFIXES: dict[str, Callable[..., Any]] = {  # of code that people copy into packages of their own
    "persistence._reconstruct_persistent_obj": _network,
    "util.EasyDict": as_dict,
    "network.Network": Record,
}
_NEW_SPELLING = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "numpy.core._multiarray_umath": "numpy.core.multiarray",
    "numpy._core._multiarray_umath": "numpy.core.multiarray",
}  # fmt: skip


def find(module: str, name: str) -> Any:
    """What stands for a name of a module.

    Raises:
        Refusal: it runs code.
    """
    module = _NEW_SPELLING.get(module, module)
    whole = f"{module}.{name}"
    if whole in _FUNCTIONS:
        return Named(whole, _FUNCTIONS[whole])
    if whole in _DTYPES:
        return _DTYPES[whole]
    if name in _STORAGES and module.split(".")[0] == "torch":
        return StorageType(_STORAGES[name])
    if module.split(".")[0] in _RUNNING_MODULES or (
        module == "builtins" and name.split(".")[0] in _RUNNING_BUILTINS
    ):
        raise Refusal(
            f"it asks for {whole}, which runs code and which no generator needs; nothing of it was run"
        )
    short = f"{module.rpartition('.')[2]}.{name}"
    return Named(whole, _SUFFIXES.get(short))
