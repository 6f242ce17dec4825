"""Running stages: records that go together over all ticks of a piece, loops over its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Loop, Stage, Together
from nldsl.compiler.masks import Mask
from nldsl.compiler.piece import Piece
from torch import Tensor

from nldsl.graph import Memory, Stream


def run(piece: Piece, stages: Iterable[Stage], inside: bool = True) -> None:
    """Run these stages over a piece. inside: whether they are the body of a loop."""
    for stage in stages:
        if not isinstance(stage, Together):
            _loop(piece, stage)
        elif inside:
            piece.run(stage.nodes)
        else:
            piece.machine.steps.together(piece, stage)


def _loop(piece: Piece, loop: Loop) -> None:
    from nldsl.compiler.lowerings import LOWERINGS  # they run stages too

    assert isinstance(piece.number, int)
    if loop.lowering and LOWERINGS[loop.lowering].run(piece, loop):
        return
    gives = piece.machine.gives(loop.nodes)
    collected: dict[str, list[tuple[Any, int]]] = {name: [] for name in gives}
    _open(piece, loop)
    bounds = list(chunks(piece.number, piece.ticks, loop))
    cuts = Cuts(piece.values, bounds)
    for i, (begin, end) in enumerate(bounds):
        part = part_of(piece, cuts, i, begin, end)
        piece.machine.steps.run(part, loop, loop.nodes, loop.alone and (piece.number + end) % loop.length == 0)
        piece.frame = part.frame
        for name in gives:
            if name in part.values:
                collected[name].append((part.values[name], end - begin))
    for name, parts in collected.items():
        if parts:
            piece.values[name] = parts[-1][0] if name.startswith("kept ") else joined(parts)


def chunks(number: int, ticks: int, loop: Loop) -> Iterator[tuple[int, int]]:
    """Where the chunks of a loop begin and end in a piece."""
    cuts = {t for t in range(ticks) if (number + t) % loop.length == 0}
    if loop.alone:
        cuts |= {t for t in range(ticks) if (number + t + 1) % loop.length == 0}
    begins = sorted(cuts | {0})
    return zip(begins, [*begins[1:], ticks], strict=True)


def _open(piece: Piece, loop: Loop) -> None:
    """Memories that a run has not met yet open before the loop where they can, so that its first chunk is like all."""
    for record, _ in loop.nodes:
        if isinstance(record, Memory) and record.id not in piece.frame and not record.starts and not record.reset_when:
            piece.open(record)


def part_of(piece: Piece, cuts: Cuts, index: int, begin: int, end: int) -> Piece:
    """Some ticks of a piece, with its values as they are there."""
    part = piece.within(piece.body, Cut(cuts, index))
    part.ticks, part.number = end - begin, piece.number + begin
    part.clock = piece.clock[:, begin:end]
    part.recorded = {n: v[:, begin:end] for n, v in piece.recorded.items()}
    part.shift, part.second_order, part.plain = piece.shift, piece.second_order, piece.plain
    return part


class Cuts:
    """The values of a piece, cut into all its chunks when they are asked for: at once, as the gradient of a piece cut
    out by itself would be a whole of zeros."""

    def __init__(self, values: Mapping[str, Any], bounds: Sequence[tuple[int, int]]) -> None:
        self.values, self.lengths = values, [end - begin for begin, end in bounds]
        self.parts: dict[str, list[Any]] = {}

    def part(self, name: str, index: int) -> Any:
        if name not in self.parts:
            self.parts[name] = split(self.values[name], self.lengths)
        return self.parts[name][index]


class Cut(dict[str, Any]):
    """The values of one chunk."""

    def __init__(self, cuts: Cuts, index: int) -> None:
        super().__init__()
        self.cuts, self.index = cuts, index

    def __missing__(self, name: str) -> Any:
        value = self.cuts.part(name, self.index)
        self[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.cuts.values


def split(value: Any, lengths: list[int]) -> list[Any]:
    """A value in pieces of so many ticks each."""
    if isinstance(value, dict):
        parts = {n: split(v, lengths) for n, v in value.items()}
        return [{n: p[i] for n, p in parts.items()} for i in range(len(lengths))]
    if isinstance(value, list):
        rows = [split(v, lengths) for v in value]
        return [[row[i] for row in rows] for i in range(len(lengths))]
    if isinstance(value, Tensor) and value.shape[1] > 1:
        return list(torch.split(value, lengths, dim=1))
    return [value] * len(lengths)


def joined(parts: list[tuple[Any, int]]) -> Any:
    """One value of all chunks, one after the other."""
    first = parts[0][0]
    if len(parts) == 1:
        return first
    if isinstance(first, dict):
        return {n: joined([(v[n], ticks) for v, ticks in parts]) for n in first}
    if isinstance(first, list):
        return [joined([(v[i], ticks) for v, ticks in parts]) for i in range(len(first))]
    if all(isinstance(v, bool) for v, _ in parts):
        return first if all(v == first for v, _ in parts) else mixed(parts)
    batch, heads = (max(v.shape[i] for v, _ in parts) for i in (0, 2))
    return torch.cat([v.expand(batch, ticks, heads, *v.shape[3:]) for v, ticks in parts], dim=1)


def mixed(parts: list[tuple[Mask, int]]) -> Tensor:
    return torch.cat([torch.full((1, ticks, 1), bool(v)) for v, ticks in parts], dim=1)


def given(nodes: Iterable[Node]) -> frozenset[str]:
    """The values that records make."""
    found: set[str] = set()
    for record, part in nodes:
        if isinstance(record, Stream):
            found |= {record.id} if record.op != "assign" else set()
        elif isinstance(record, Memory):
            if record.form == "attention":
                found |= {f"epoch {record.id}", f"begun {record.id}"}
        elif part == "gather":
            found.add(f"gradient {record.id}")
        elif record.kind == "pairs":
            found.add(f"kept {record.memories[0]}")
        elif record.kind == "loss" and record.every.unit == "token":
            found |= {f"active {record.id}", f"weights {record.id}", f"rates {record.id}"}
    return frozenset(found)


def used(nodes: Iterable[Node], taken: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The values that records ask for."""
    found: set[str] = set()
    for record, part in nodes:
        if isinstance(record, Stream):
            found |= {a for a in record.args if isinstance(a, str)}
            if record.op == "recall":
                found |= {f"epoch {record.memory}", f"kept {record.memory}"}
        elif isinstance(record, Memory):
            found |= {record.reset_when} - {""}
        else:
            found |= {p.stream for b in record.bodies for p in b.inputs if p.stream} | set(record.pair) - {""}
            found |= {v for v in (record.when, record.over_weight, *record.weights) if isinstance(v, str) and v}
            found |= taken[record.id]
            if part == "write":
                found.add(f"gradient {record.id}")
            if record.kind == "pairs":
                found |= {f"epoch {record.memories[0]}", f"begun {record.memories[0]}"}
    return frozenset(found)
