"""What inductor's code for a CPU does at every call, worked out once: the kernels that it calls then follow one another
without Python, and what lives between them lies in one block of memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from nldsl.compiler.bodies.places import Life, Place, Record, Unknown
from torch import Tensor
from torch._C._dynamo.guards import _empty_strided_cpu, _reinterpret_tensor  # type: ignore[attr-defined]
from torch._inductor.codecache import CppPythonBindingsCodeCache
from torch._inductor.output_code import CompiledFxGraph

SOURCE = Path(__file__).with_suffix(".cpp")
ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Room:
    """A block, and the results that lie in it, by their places."""

    block: Tensor
    parts: list[tuple[int, Tensor]]


Made = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
Seen = tuple[CompiledFxGraph, list[Any]]  # a graph that was called, and with what


class _Bindings(CppPythonBindingsCodeCache):
    """torch's bindings, for one tensor and a tuple of any number."""

    call_entry_function = """
        kernel(parse_arg<const int64_t*>(args, 0), PyTuple_GET_ITEM(args, 1), _torchinductor_pyobject_tensor_data_ptr);
        Py_RETURN_NONE;
    """


@cache
def _kernel() -> Callable[[Tensor, tuple[Tensor, ...]], None]:
    """Of a program as `calls.cpp` has it, and of the tensors that it is about."""
    made: Callable[..., None] = _Bindings.load_pybinding(["", ""], SOURCE.read_text())
    return made


class Calls:
    """The calls of a record, for inputs that lie like those it was made with. together: from which result on they lie
    in a room, which another call may have when they are needed no more."""

    def __init__(self, record: Record, inputs: int, together: int) -> None:
        results = dict(enumerate(record.results))
        alone = sorted({x.which for i, x in results.items() if x and i < together})
        self.made = [_made(i, record) for i in alone]
        self.views = [_view(x, alone, self.made) if x and x.which in alone else None for x in results.values()]
        self.shared = {i: x for i, x in results.items() if x and x.which not in alone}
        lasting = {x.which: Life(record.lives[x.which].bytes, 0, 1) for x in self.shared.values()}
        self.within, self.size = arranged(lasting)
        passing = {i: life for i, life in enumerate(record.lives) if i not in alone and i not in lasting}
        offsets, self.bytes = arranged(passing)
        places = {i: (inputs, offset) for i, offset in offsets.items()}
        places |= {i: (inputs + 1, offset) for i, offset in self.within.items()}
        places |= {i: (inputs + 2 + place, 0) for place, i in enumerate(alone)}
        self.program = torch.tensor(list(_program(record, inputs, places)))
        self.run = _kernel()
        self.scratch: list[Tensor] = []
        self.spared: list[Room] = []  # for another call

    def room(self) -> Room:
        """For the results that lie together."""
        return self.spared.pop() if self.spared else self._room()

    def _room(self) -> Room:
        with torch.inference_mode(False):  # what it is made in is not what it will be used in
            block = torch.empty(-(-self.size // ALIGNED) * ALIGNED, dtype=torch.uint8)  # whole numbers of any type
            parts: list[tuple[int, Tensor]] = []
            for i, x in self.shared.items():
                begin = x.offset + self.within[x.which] // x.dtype.itemsize
                parts.append((i, block.view(x.dtype).as_strided(x.shape, x.stride, begin)))
        return Room(block, parts)

    def __call__(self, *inputs: Tensor, room: Room | None = None) -> list[Tensor | None]:
        made = [_empty_strided_cpu(*how) for how in self.made]
        room = room or self.room()
        scratch = self.scratch.pop() if self.scratch else _empty_strided_cpu((self.bytes,), (1,), torch.uint8)
        self.run(self.program, (*inputs, scratch, room.block, *made))
        self.scratch.append(scratch)
        found: list[Tensor | None] = []
        for result in self.views:
            if result is None:
                found.append(None)
            else:
                which, view = result
                found.append(made[which] if view is None else _reinterpret_tensor(made[which], *view))
        for i, x in room.parts:
            found[i] = x
        return found


@contextmanager
def watched() -> Iterator[list[Seen]]:
    """Which graphs of inductor's are called meanwhile."""
    seen: list[Seen] = []
    call = CompiledFxGraph.__call__

    def watching(graph: CompiledFxGraph, inputs: Any) -> Any:
        seen.append((graph, [*inputs]))
        return call(graph, inputs)

    with patch.object(CompiledFxGraph, "__call__", watching):
        yield seen


def worked_out(
    seen: Sequence[Seen], inputs: Sequence[Tensor], results: Sequence[Any], together: int | None = None
) -> Calls | None:
    """What does the same as a call that was watched, which had these inputs and results. None where that does more than
    to call kernels on a CPU, or where torch does something with inputs or results besides. together: as in `Calls`,
    None for no result."""
    storages = {x.untyped_storage().data_ptr() for x in inputs}
    handed = any(x is not None and x.untyped_storage().data_ptr() in storages for x in results)
    if len(seen) != 1 or handed or not all(x.is_cpu for x in inputs) or not _same(inputs, seen[0][1]):
        return None
    code: Any = seen[0][0].current_callable
    try:
        record = Record(code, inputs)
    except Unknown:
        return None
    if len(record.results) != len(results) or not all(map(_alike, results, record.results)):
        return None
    return Calls(record, len(inputs), len(results) if together is None else together)


def _same(some: Sequence[Tensor], others: Sequence[Any]) -> bool:
    """Whether they are the same numbers."""
    return len(some) == len(others) and all(
        isinstance(y, Tensor) and x.data_ptr() == y.data_ptr() and _lies(x) == _lies(y)
        for x, y in zip(some, others, strict=True)
    )


def _alike(x: Tensor | None, place: Place | None) -> bool:
    if x is None or place is None:
        return x is None and place is None
    return _lies(x) == (place.shape, place.stride, place.dtype)


def _lies(x: Tensor) -> tuple[Any, ...]:
    return tuple(x.shape), x.stride(), x.dtype


def _made(which: int, record: Record) -> Made:
    """How an allocation is made: as the first result that is all of it, if any is."""
    made = record.made[which]
    whole = (x for x in record.results if x and x.which == which and not x.offset and x.bytes == made.bytes)
    seen = next((x for x in whole if x.dtype is made.dtype), made)
    return seen.shape, seen.stride, seen.dtype


def _view(place: Place, alone: Sequence[int], made: Sequence[Made]) -> tuple[int, tuple[Any, ...] | None]:
    """Which of those that are made, and as what it is seen."""
    which = alone.index(place.which)
    whole = (place.shape, place.stride) == made[which][:2] and not place.offset
    return which, None if whole else (place.shape, place.stride, place.offset)


def arranged(lives: Mapping[int, Life]) -> tuple[dict[int, int], int]:
    """Where each begins in one block, and how long the block is: as low as those that live meanwhile let it."""
    offsets: dict[int, int] = {}
    for i, life in lives.items():
        meanwhile = sorted((offsets[j], lives[j].bytes) for j in offsets if lives[j].last > life.first)
        offset = 0
        for begin, size in meanwhile:
            if offset + life.bytes <= begin:
                break
            offset = max(offset, -(-(begin + size) // ALIGNED) * ALIGNED)
        offsets[i] = offset
    return offsets, max((offsets[i] + lives[i].bytes for i in offsets), default=0)


def _program(record: Record, inputs: int, places: Mapping[int, tuple[int, int]]) -> Iterator[int]:
    """As `calls.cpp` reads it. places: which tensor an allocation is in, and from which byte on."""
    yield len(record.calls)
    for call in record.calls:
        numbers, last = (call.arguments[:-2], call.arguments[-2:]) if call.ending else (call.arguments, [0.0, 0.0])
        yield from (call.address, len(numbers), call.ending)
        for x in numbers:
            if isinstance(x, Place):
                which, begin = (inputs + x.which, 0) if x.which < 0 else places[x.which]
                yield from (which, begin + x.offset * x.dtype.itemsize)
            else:
                yield from (-1, x)
        yield from struct.unpack("2q", struct.pack("2d", *last))
