"""inductor's code for a CPU, run on places instead of tensors: which kernels it calls, with what, and how long what it
allocates is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

MOST = 256  # arguments that `calls.cpp` calls a kernel with
ENDINGS = {"float": 1, "double": 2}  # by the end of a kernel's name: what its last two numbers are


class Unknown(Exception):
    """The code does something else than to call kernels."""


@dataclass
class Life:
    """How many bytes there are, from before which call on, and until before which other."""

    bytes: int
    first: int
    last: int = 0


@dataclass
class Place:
    """Stands for a tensor. which: of what is allocated, or, below zero, of the inputs, counted from the last."""

    which: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset: int = 0
    held: _Held | None = None

    @property
    def bytes(self) -> int:
        """From where it begins to its last number."""
        steps = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (1 + steps) * self.dtype.itemsize if all(self.shape) else 0

    def seen(self, shape: Sequence[int], stride: Sequence[int], offset: int) -> Place:
        """As inductor's `reinterpret_tensor` sees it; the offset is counted from where it begins."""
        return Place(self.which, tuple(shape), tuple(stride), self.dtype, self.offset + offset, self.held)


@dataclass
class Call:
    """Of the machine code at an address. ending: which numbers are the last two arguments, 0 for none."""

    address: int
    arguments: list[Any]
    ending: int


class Record:
    """What the code does. results: what it returns."""

    def __init__(self, code: MethodType, inputs: Sequence[Tensor]) -> None:
        self.calls: list[Call] = []
        self.made: list[Place] = []
        self.lives: list[Life] = []
        run: Any = code.__func__
        own: dict[str, Any] = {"empty_strided_cpu": self._allocated, "reinterpret_tensor": Place.seen}
        for name in run.__code__.co_names:
            kernel = run.__globals__.get(name)
            if isinstance(kernel, BuiltinFunctionType) and kernel.__name__ == "kernel":
                own[name] = partial(self._called, name, kernel)
        places = [Place(i - len(inputs), tuple(x.shape), x.stride(), x.dtype) for i, x in enumerate(inputs)]
        try:
            self.results = FunctionType(run.__code__, {**run.__globals__, **own})(code.__self__, places)
        except Exception as error:  # whatever an operator says that is given a place
            raise Unknown from error
        if not all(x is None or (isinstance(x, Place) and x.which >= 0) for x in self.results):
            raise Unknown  # an input is for others to hand on

    def _allocated(self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Place:
        which = len(self.made)
        self.made.append(Place(which, tuple(shape), tuple(stride), dtype))
        self.lives.append(Life(self.made[-1].bytes, len(self.calls)))
        return Place(which, tuple(shape), tuple(stride), dtype, held=_Held(self, which))

    def _called(self, name: str, kernel: Any, *arguments: Any) -> None:
        ending = ENDINGS.get(name.rpartition("_")[2], 0) if isinstance(arguments[-1], float) else 0
        if len(arguments) > MOST or not all(isinstance(x, Place | int) for x in arguments[: -2 if ending else None]):
            raise Unknown
        told = [replace(x, held=None) if isinstance(x, Place) else x for x in arguments]
        address = ctypes.cast(ctypes.CDLL(kernel.__self__.__file__).kernel, ctypes.c_void_p).value
        self.calls.append(Call(address or 0, told, ending))


class _Held:
    """Ends a life when nothing of the code holds it any more."""

    def __init__(self, record: Record, which: int) -> None:
        self.record, self.which = record, which

    def __del__(self) -> None:
        self.record.lives[self.which].last = len(self.record.calls)
