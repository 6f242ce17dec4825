"""Loop distribution: which records of a tick can run over all ticks at once, and which must take turns.

A tick depends on those before it through its memories alone. As in vectorising compilers, the records are the nodes of
a graph with an edge wherever one needs another, in the same tick or a later one; its strongly connected components are
the loops, everything else runs over all ticks at once. Inside a loop, time is cut into chunks. Within a chunk some of
those edges are gone: what a learn holds does not change, nor does a memory between its writes. So the loop's records
are distributed again, until single ticks are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nldsl.compiler.components import components
from nldsl.compiler.dependences import Node, Shape, dependences, key_of, writers_of

from nldsl.graph import Memory, Objective, Stream


@dataclass(frozen=True)
class Together:
    """Records that run over all ticks of a piece, in this order."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Loop:
    """Stages that run once per chunk of `length` ticks, one chunk after the other.

    alone: a window ends with the chunk, whose last tick runs by itself, record by record. memories: those it carries.
    lowering: how its ticks run at once, "" for one after the other; because: why, by memory; refused: why not (see
    `lowerings/`). kernels: what a GPU may run in place of its chunks.
    """

    length: int
    stages: tuple[Together | Loop, ...]
    nodes: tuple[Node, ...]
    alone: bool = False
    memories: tuple[str, ...] = ()
    lowering: str = ""
    because: tuple[tuple[str, tuple[str, ...]], ...] = ()
    refused: str = ""
    kernels: tuple[str, ...] = ()


Stage = Together | Loop


def distribute(
    nodes: Sequence[Node], shape: Shape, chunk: int = 0, quiet: frozenset[str] = frozenset(), chunks: bool = True
) -> tuple[Stage, ...]:
    """Records -> stages. chunk: the length of the chunks they are already in, 0 for none. quiet: the memories that
    no one writes within them. chunks: False for single ticks only."""
    graph = dependences(nodes, shape, chunk, quiet)
    by_key = {key_of(n): n for n in nodes}
    stages: list[Loop | list[Node]] = []
    for keys in components(graph):
        if len(keys) > 1 or keys[0] in graph[keys[0]]:
            stages.append(_loop([by_key[k] for k in keys], shape, chunk, chunks))
        elif stages and isinstance(stages[-1], list):
            stages[-1].append(by_key[keys[0]])
        else:
            stages.append([by_key[keys[0]]])
    return tuple(Together(tuple(s)) if isinstance(s, list) else s for s in stages)


def _loop(nodes: Sequence[Node], shape: Shape, chunk: int, chunks: bool) -> Loop:
    """The longest chunks in which something of this loop can run over all ticks at once, or single ticks."""
    carried = tuple(sorted(writers_of(nodes, shape)))
    for length, quiet in _candidates(nodes, shape, chunk, carried) if chunks else ():
        stages = distribute(nodes, shape, length, quiet)
        if len(stages) > 1 or not isinstance(stages[0], Loop):
            return Loop(length, stages, tuple(nodes), bool(quiet), carried)
    return Loop(1, (Together(tuple(nodes)),), tuple(nodes), False, carried)


def _candidates(
    nodes: Sequence[Node], shape: Shape, chunk: int, carried: Iterable[str]
) -> Iterator[tuple[int, frozenset[str]]]:
    """Chunk lengths to try, longest first, and the memories that are written at a chunk's last tick only."""
    lengths = {r.hold_length for r, _ in nodes if isinstance(r, Objective) and r.hold}
    lengths |= {shape.memories[m].reset_every for m in carried}
    periods = {m: _periods(m, nodes) for m in carried}
    lengths |= {math.gcd(*p) for p in periods.values() if p}
    lengths |= {math.gcd(a, b) for a in lengths for b in lengths}
    for length in sorted(lengths, reverse=True):
        if length > 1 and (not chunk or (length < chunk and chunk % length == 0)):
            yield length, frozenset(m for m in carried if _quiet(shape.memories[m], periods[m], length))


def _quiet(memory: Memory, periods: set[int], chunk: int) -> bool:
    """Whether a memory is written at the last tick of chunks only."""
    aligned = not memory.reset_when and memory.reset_every % chunk == 0
    return bool(periods) and aligned and all(p % chunk == 0 and memory.reset_every % p == 0 for p in periods)


def _periods(memory: str, nodes: Sequence[Node]) -> set[int]:
    """How often a memory is written, by each who writes it."""
    learns = {r.every.count for r, p in nodes if isinstance(r, Objective) and p == "write" and memory in r.memories}
    return learns | {r.every for r, _ in nodes if isinstance(r, Stream) and r.op == "assign" and r.memory == memory}
