"""The state of a run between calls: a nested dictionary of tensors, to be saved, moved and detached like any other.

Rows of a batch that stand at the same tick are one part. Without a mask there is one part; with one, rows whose texts
have different lengths go on in parts of their own, so that padding never reaches a memory. The number of the program
and those of ticks stay on the CPU, where every call looks at them: its device need not be waited for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
Part = dict[str, Any]


def initial(batch: int, program: int, device: torch.device) -> State:
    if batch < 1:
        raise ValueError(f"a state is of at least one sequence, not {batch}")
    rows = torch.arange(batch, device=device)
    tick = torch.tensor(0, device="cpu")
    return {"program": torch.tensor(program, device="cpu"), "parts": [{"rows": rows, "tick": tick}]}


def fingerprint(text: str) -> int:
    """A number that tells one program's states from another's."""
    return zlib.crc32(text.encode("utf-8"))


def batch_of(state: Mapping[str, Any]) -> int:
    return sum(int(part["rows"].shape[0]) for part in state["parts"])


def checked(state: Any, batch: int, program: int, dtype: torch.dtype, device: torch.device) -> State:
    """The state, if it belongs to this program and batch, and to a module of this dtype and device. Raises
    ValueError."""
    if not isinstance(state, Mapping) or "parts" not in state or "program" not in state:
        raise ValueError("this is no state; start from `initial_state(batch)`, or from what a call gave back")
    if int(state["program"]) != program:
        raise ValueError("this state is another program's; start from `initial_state(batch)`")
    if batch_of(state) != batch:
        raise ValueError(f"this state is of {batch_of(state)} sequences, and the inputs are of {batch}")
    for x in _tensors([{**kept(part), "rows": part["rows"]} for part in state["parts"]]):
        if x.device != device or (x.is_floating_point() and x.dtype is not dtype):
            own = x.dtype if x.is_floating_point() else dtype
            raise ValueError(f"this state is {own} on {x.device}, and the module {dtype} on {device}; move it likewise")
    return dict(state)


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)


def kept(part: Part) -> dict[str, Any]:
    """What a part's run goes on from."""
    return {n: v for n, v in part.items() if n not in ("rows", "tick")}


def part_after(part: Part, ticks: int, after: Mapping[str, Any]) -> Part:
    return {"rows": part["rows"], "tick": part["tick"] + ticks, **after}


def chosen(part: Part, on: Tensor) -> Part:
    """Some rows of a part. on: which, among its own."""
    size = int(part["rows"].shape[0])
    return {n: v if n == "tick" else _rows(v, on, size) for n, v in part.items()}


def _rows(value: Any, on: Tensor, size: int) -> Any:
    if isinstance(value, dict):
        return {n: _rows(v, on, size) for n, v in value.items()}
    if isinstance(value, list):
        return [_rows(v, on, size) for v in value]
    if value.shape[0] == size:
        return value[on]
    copies = value.shape[0] // size  # inside rules, the copies of a weight are part of the batch
    return value.reshape(size, copies, *value.shape[1:])[on].flatten(0, 1)


def pieces(part: Part, mask: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Where a part's mask [rows, ticks] changes: from, to, and which rows go on there."""
    ticks = mask.shape[1]
    changes = (mask[:, 1:] != mask[:, :-1]).any(0).nonzero().flatten().tolist()
    cuts = [0, *(t + 1 for t in changes), ticks]
    for begin, end in pairwise(cuts):
        yield begin, end, mask[:, begin]
