"""Loops over the chunks of a piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from nldsl.compiler import recompute
from nldsl.compiler.chunks import Cut, Cuts, joined
from nldsl.compiler.dependences import origins
from nldsl.compiler.distribute import Loop
from nldsl.compiler.nested import flattened
from nldsl.compiler.piece import Frame, Piece
from nldsl.compiler.steady import Steady
from torch import Tensor

from nldsl.graph import Memory

Parts = dict[str, list[tuple[Any, int]]]  # values of some chunks, and their ticks


def run(piece: Piece, loop: Loop) -> None:
    """Run a loop over a piece, chunk by chunk."""
    assert isinstance(piece.number, int)
    if piece.machine.watch is not None and loop.memories:
        piece.machine.watch(loop.memories[0])
    _open(piece, loop)
    bounds = list(bounds_of(piece.number, piece.ticks, loop))
    if piece.machine.steps.compiler is not None:
        bounds = [b for begin, end in bounds for b in powers(begin, end, loop.length)]
    chunks = _Chunks(piece, loop, bounds)
    for frame, parts in chunks.stretches():
        piece.frame = chunks.frame = frame
        for name, values in parts.items():
            chunks.collected[name] += values
    for name, values in chunks.collected.items():
        if values:
            piece.values[name] = values[-1][0] if name.startswith("kept ") else joined(values)


class _Chunks:
    """The chunks of a loop. collected: what they gave so far. Of the piece's values it has those that the loop reads
    alone: stretches keep it for the backward pass."""

    def __init__(self, piece: Piece, loop: Loop, bounds: Sequence[tuple[int, int]]) -> None:
        self.piece, self.frame = replace(piece, values={}, frame={}), piece.frame
        self.loop, self.bounds = loop, bounds
        self.gives = piece.machine.gives(loop.nodes)
        self.collected: Parts = {name: [] for name in self.gives}
        read = piece.machine.reads(loop.nodes)
        self.cuts = Cuts({name: piece.values[name] for name in read if name in piece.values}, bounds)
        self.low = piece.machine.low
        self.steady: Steady | None = None  # what the chunk after the last one may go on with

    def stretches(self) -> Iterator[tuple[Frame, Parts]]:
        """The chunks one after the other, as many at a time as are computed again together. Those of one body see to
        that themselves (`bodies/scan.py`)."""
        budget = self.piece.machine.budget if torch.is_grad_enabled() and not self.piece.plain else 0
        first, everything = self.cuts.first + 2, len(self.bounds)
        if not budget or everything < first + 2 or torch.compiler.is_compiling():
            yield self.some(self.frame, range(everything))
            return
        begin = 0
        for end in (first - 1, first):  # most bodies are met and traced here; the first is often one of its own
            yield self.some(self.frame, range(begin, end))
            begin = end
            if self._reach(begin, everything) >= self.cuts.first + self.cuts.even:
                yield self.some(self.frame, range(begin, everything), self.steady)
                return
        try:
            one, each = recompute.measured(partial(self.some, self.frame, range(first, first + 1), stretched=True))
        except recompute.Untraced:
            yield self.some(self.frame, range(first, everything))
            return
        yield one
        left = range(first + 1, everything)
        count = recompute.stretch(len(left), each, self._bytes(), budget) or len(left)
        for begin in left[::count]:
            yield self._again(self.frame, range(begin, min(begin + count, everything)), count < len(left))

    def some(
        self, frame: Frame, chunks: range, steady: Steady | None = None, stretched: bool = False
    ) -> tuple[Frame, Parts]:
        """Some chunks, from this frame on. steady: what ran the chunk before them, if it can go on."""
        found: Parts = {name: [] for name in self.gives}
        machine, clock = self.piece.machine, self.piece.clock
        before, machine.low, machine.steps.stretched = machine.steps.stretched, self.low, stretched
        self.steady = steady
        try:
            while chunks:
                begin, end = self.bounds[chunks.start]
                reach = self._reach(chunks.start, chunks.stop)
                if self.steady is not None and reach > chunks.start:
                    clocks = [clock[:, b:e] for b, e in self.bounds[chunks.start : reach]]
                    values = self.steady.run(chunks.start, clocks)
                else:
                    frame = self.steady.after(frame) if self.steady else frame
                    part = part_of(self.piece, frame, self.cuts, chunks.start, begin, end)
                    self.steady = machine.steps.run(part, self.loop, self.loop.nodes, self._last(chunks.start))
                    frame, values = part.frame, [part.values]
                for given in values:
                    for name in self.gives:
                        if name in given:
                            found[name].append((given[name], end - begin))
                chunks = chunks[len(values) :]
        finally:
            machine.steps.stretched = before
        return self.steady.after(frame) if self.steady else frame, found

    def _reach(self, index: int, stop: int) -> int:
        """The chunk before which the body that ran the last one must leave off."""
        while self.steady is not None and index < stop:
            begin, end = self.bounds[index]
            if not self.steady.takes(index, int(self.piece.number) + begin, end - begin, self._last(index)):
                break
            index += 1
        return index

    def _last(self, index: int) -> bool:
        """Whether the records of a chunk run one after the other."""
        return self.loop.alone and (int(self.piece.number) + self.bounds[index][1]) % self.loop.length == 0

    def _again(self, frame: Frame, chunks: range, again: bool) -> tuple[Frame, Parts]:
        """Some chunks that are computed again in the backward pass; not those with a body that nobody has met."""
        try:
            run = partial(self.some, frame, chunks, stretched=True)
            return recompute.again(run) if again else run()
        except recompute.Untraced:
            return self.some(frame, chunks)

    def _bytes(self) -> int:
        """Of the state between two chunks."""
        tensors: list[Tensor] = []
        names = {r.id for r, _ in self.loop.nodes} | set(self.loop.memories)
        flattened({n: v for n, v in self.frame.items() if n in names}, tensors)
        return sum(x.nbytes for x in tensors)


def bounds_of(number: int, ticks: int, loop: Loop) -> Iterator[tuple[int, int]]:
    """Where the chunks of a loop begin and end in a piece."""
    cuts = {t for t in range(ticks) if (number + t) % loop.length == 0}
    if loop.alone:
        cuts |= {t for t in range(ticks) if (number + t + 1) % loop.length == 0}
    begins = sorted(cuts | {0})
    return zip(begins, [*begins[1:], ticks], strict=True)


def powers(begin: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """What is no whole chunk in pieces of 2^n ticks: a few bodies are enough for all lengths."""
    while end - begin < length and (end - begin) & (end - begin - 1):
        middle = begin + (1 << (end - begin).bit_length() - 1)
        yield begin, middle
        begin = middle
    yield begin, end


def _open(piece: Piece, loop: Loop) -> None:
    """Memories that a run has not met yet open before the loop where they can, so that its first chunk is like all."""
    for record, _ in loop.nodes:
        if not isinstance(record, Memory) or record.id in piece.frame or record.reset_when:
            continue
        if not set(origins(record, piece.machine.shape)) & piece.machine.shape.running:
            piece.open(record)


def part_of(piece: Piece, frame: Frame, cuts: Cuts, index: int, begin: int, end: int) -> Piece:
    """Some ticks of a piece, with its values as they are there."""
    part = piece.within(piece.body, Cut(cuts, index))
    part.frame = frame
    part.ticks, part.number = end - begin, piece.number + begin
    part.clock = piece.clock[:, begin:end]
    part.recorded = {n: v[:, begin:end] for n, v in piece.recorded.items()}
    part.shift, part.second_order, part.plain = piece.shift, piece.second_order, piece.plain
    return part
