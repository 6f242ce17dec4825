"""Reading a text piece by piece, the state carried on, with a look at the memories now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from nldsl.compiler.doctor.probe import Inputs, Probe, weights_of
from nldsl.compiler.doctor.sizes import Scale
from nldsl.compiler.state import State
from torch import Tensor

from nldsl.graph import Memory

LONGEST = 256  # ticks per call


class Watcher(Protocol):
    """Looks at the state after so many tokens, each of the marks, in their order."""

    marks: tuple[int, ...]

    def look(self, tokens: int, state: State) -> None: ...


class Sizes:
    """The sizes of the first `batch` rows. found: memory -> tokens read -> size."""

    def __init__(self, scales: Mapping[str, Scale], batch: int, marks: tuple[int, ...]) -> None:
        self.scales, self.batch, self.marks = scales, batch, marks
        self.found: dict[str, dict[int, float]] = {name: {} for name in scales}

    def look(self, tokens: int, state: State) -> None:
        for name, scale in self.scales.items():
            self.found[name][tokens] = scale.of({n: w[: self.batch] for n, w in weights_of(state, name).items()})


@dataclass
class Seen:
    """Of the first `batch` rows. ticks: read by all. shown: the probe's streams [batch, ticks, …]. state: the last.
    broken: the memory, or "" for an output, that is not finite, and the first such token."""

    batch: int
    ticks: int = 0
    shown: dict[str, Tensor] = field(default_factory=dict)
    state: State | None = None
    broken: tuple[str, int] | None = None


def read(
    probe: Probe,
    inputs: Inputs,
    batch: int,
    memories: Sequence[Memory],
    watchers: Sequence[Watcher],
    progress: Callable[[int], None],
) -> Seen:
    """Read all of the inputs [rows, ticks, …], or up to the piece with the first number that is not finite in the first
    `batch` rows."""
    seen = Seen(batch)
    parts: dict[str, list[Tensor]] = {name: [] for name in probe.streams}
    for begin, end in _pieces(inputs[0].shape[1], {m for w in watchers for m in w.marks}):
        piece = tuple(x[:, begin:end] for x in inputs)
        shown, outs, after = probe.read(piece, seen.state)
        if not _finite(after, outs, batch, memories):
            name, token = _first(probe, piece, seen, memories)
            seen.broken = name, begin + token
            break
        for stream, value in shown.items():
            parts[stream].append(value[:batch].cpu())
        seen.state, seen.ticks = after, end
        for watcher in watchers:
            if end in watcher.marks:
                watcher.look(end, after)
        progress(inputs[0].shape[0] * (end - begin))
    seen.shown = {name: torch.cat(values, dim=1) for name, values in parts.items() if values}
    return seen


def _pieces(ticks: int, marks: set[int]) -> Iterator[tuple[int, int]]:
    """Pieces that end at every mark and at multiples of `LONGEST`."""
    begin = 0
    for end in sorted(marks | {*range(LONGEST, ticks, LONGEST), ticks}):
        yield begin, end
        begin = end


def _finite(state: State, outs: Sequence[Tensor], batch: int, memories: Sequence[Memory]) -> bool:
    return not _broken(state, batch, memories) and all(bool(x[:batch].isfinite().all()) for x in outs)


def _broken(state: State, batch: int, memories: Sequence[Memory]) -> str:
    """The first memory, in the order of the text, that is not finite."""
    for memory in memories:
        if not all(bool(w[:batch].isfinite().all()) for w in weights_of(state, memory.id).values()):
            return memory.id
    return ""


def _first(probe: Probe, piece: Inputs, seen: Seen, memories: Sequence[Memory]) -> tuple[str, int]:
    """(memory, token) by bisection of a piece: the shortest beginning of it that leaves something not finite."""
    good, bad = 0, piece[0].shape[1]
    while bad - good > 1:
        middle = (good + bad) // 2
        _, outs, after = probe.read(tuple(x[:, :middle] for x in piece), seen.state)
        good, bad = (middle, bad) if _finite(after, outs, seen.batch, memories) else (good, middle)
    _, _, after = probe.read(tuple(x[:, :bad] for x in piece), seen.state)
    return _broken(after, seen.batch, memories), bad - 1
