"""Tensors and arrays of a file, read when they are needed.

A file may refer to one storage many times, and state any shape: nothing is read, copied or reserved until
`value` is asked, and then no more than the file holds.
"""

import math
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from teacher.generators.stylegan2.formats.refusal import Damaged, Refusal

_DTYPE = re.compile(r"[<>=|]?([biuf]\d{1,2}|[?bBhHiIlLqQefd])")  # of plain numbers


class Lazy(Protocol):
    """A tensor that is made by `value`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def value(self) -> Tensor:
        """Its numbers."""


class Storage:
    """Numbers that tensors are views of; read once.

    Args:
        dtype: of the numbers.
        count: how many there are.
        read: gives their bytes.
        swapped: whether the bytes have the other order than this machine's.
    """

    def __init__(
        self, dtype: torch.dtype, count: Any, read: Callable[[], bytes], swapped: bool = False
    ) -> None:
        if not isinstance(count, int) or count < 0:
            raise Damaged("the length of a storage in it is not a number")
        self.dtype, self.count, self.read, self.swapped = dtype, count, read, swapped

    @cached_property
    def numbers(self) -> Tensor:
        """All of them, flat."""
        raw, size = self.read(), self.dtype.itemsize
        if len(raw) != self.count * size:
            raise Damaged(f"a storage in it has {len(raw)} bytes instead of {self.count * size}")
        if self.swapped and size > 1:
            raw = np.frombuffer(raw, f"u{size}").byteswap().tobytes()
        if not raw:
            return torch.empty(0, dtype=self.dtype)
        return torch.frombuffer(bytearray(raw), dtype=self.dtype)


class TensorView:
    """A tensor: a view of a storage.

    Args:
        dtype: of the tensor; none for the storage's.
    """

    def __init__(
        self, storage: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype | None = None
    ) -> None:
        self.storage, self.offset, self.dtype = storage, int(offset), dtype
        self.shape, self.stride = tuple(map(int, shape)), tuple(map(int, stride))

    def value(self) -> Tensor:
        """The view; it shares the storage's memory.

        Raises:
            Refusal: it lies outside of its storage.
        """
        if not isinstance(self.storage, Storage):
            raise Damaged("a tensor in it has no storage")
        if len(self.shape) != len(self.stride) or len(self.shape) > 8:
            raise Damaged("a tensor in it has another number of strides than sides")
        dtype = self.dtype or self.storage.dtype
        count = self.storage.count * self.storage.dtype.itemsize // dtype.itemsize
        steps = zip(self.shape, self.stride, strict=True)
        last = self.offset + sum((size - 1) * step for size, step in steps)
        negative = min((*self.shape, *self.stride, self.offset), default=0) < 0
        if negative or last >= count or math.prod(self.shape) > count:
            raise Refusal(f"a tensor of shape {list(self.shape)} in it lies outside its storage")
        return self.storage.numbers.view(dtype).as_strided(self.shape, self.stride, self.offset)


class MetaTensor:
    """A tensor that was saved without its numbers."""

    def __init__(self, shape: Any) -> None:
        self.shape = tuple(map(int, shape))

    def value(self) -> Tensor:
        raise Refusal("a tensor in it is on PyTorch's device meta, that is, has no numbers")


class Dtype:
    """Stands for numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code if isinstance(code, str) else getattr(code, "name", "").rpartition(".")[2]
        self.order: Literal["<", ">"] = "<"

    def set_state(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        """The dtype of plain numbers.

        Raises:
            Refusal: it is of anything else.
        """
        code = {"bool": "?", "bool_": "?"}.get(self.code, self.code)
        if re.fullmatch(r"(float|int|uint)(8|16|32|64)", code):
            return np.dtype(code)
        if not _DTYPE.fullmatch(code):
            raise Refusal("an array in it is not of numbers")
        found = np.dtype(code)
        return found if found.itemsize == 1 or code[0] in "<>=" else found.newbyteorder(self.order)


class Array:
    """Stands for numpy.ndarray."""

    def __init__(self, *state: Any) -> None:
        self.state = state  # shape, dtype, whether in Fortran's order, bytes
        self.axes: Any = None  # their order, where it is another than that of the bytes

    def set_state(self, state: Any) -> None:
        self.state = tuple(state[1:5])

    @property
    def shape(self) -> tuple[int, ...]:
        if len(self.state) != 4:
            raise Damaged("an array in it has no shape")
        shape = self._stored_shape()
        return shape if self.axes is None else tuple(shape[axis] for axis in self.axes)

    def _stored_shape(self) -> tuple[int, ...]:
        shape = self.state[0]
        return tuple(map(int, shape if isinstance(shape, tuple | list) else (shape,)))

    def numpy(self) -> np.ndarray:
        """The numbers.

        Raises:
            Refusal: they are no plain numbers, or not as many as the shape says.
        """
        if len(self.state) != 4:
            raise Damaged("an array in it has no shape")
        shape, (_, dtype, fortran, data) = self._stored_shape(), self.state
        if not isinstance(dtype, Dtype) or not isinstance(data, bytes | str):
            raise Refusal("an array in it is not of numbers")
        raw, kind = data.encode("latin1") if isinstance(data, str) else data, dtype.numpy()
        if len(raw) != math.prod(shape) * kind.itemsize or min(shape, default=0) < 0:
            raise Refusal(f"an array of shape {list(shape)} in it has {len(raw)} bytes")
        found = np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")
        return found if self.axes is None else found.transpose(self.axes)

    def value(self) -> Tensor:
        return torch.from_numpy(np.array(self.numpy(), np.float32, order="C"))


class Changed(NamedTuple):
    """A tensor with something done to it.

    Args:
        source: the tensor.
        shape: what it has then.
        change: what is done to it.
    """

    source: Lazy
    shape: tuple[int, ...]
    change: Callable[[Tensor], Tensor]

    def value(self) -> Tensor:
        return self.change(self.source.value())


def scaled(source: Lazy, factor: float) -> Lazy:
    """The tensor times a number; itself where that is one."""
    if abs(factor - 1) < 1e-6:
        return source
    return Changed(source, source.shape, lambda tensor: tensor.double() * factor)
