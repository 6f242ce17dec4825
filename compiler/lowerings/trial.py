"""A piece to try a lowering on: two ticks of a loop, on tensors that have shapes and no numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import memories, stages
from nldsl.compiler.affine import Form
from nldsl.compiler.dependences import Node, Shape
from nldsl.compiler.lowerings.outlines import Outlines
from nldsl.compiler.lowerings.weight import Reading, Weight
from nldsl.compiler.needs import memories_of, needs_of
from nldsl.compiler.piece import Facts, Piece, clock_of
from torch import Tensor

from nldsl.graph import Body, Leaf, LevelGraph, Memory, Objective, Port, Stream

if TYPE_CHECKING:
    from nldsl.compiler.distribute import Loop

TICKS = 2
DEVICE = torch.device("meta")
TYPES = {"real": torch.float32, "int": torch.int64, "bool": torch.bool}


@dataclass(frozen=True)
class Tried:
    """refused: why a loop can't run like this, "" if it can. because: why it can, by memory. most: ticks at once.
    kernels: what a GPU may run in its place."""

    refused: str
    because: dict[str, tuple[str, ...]] = field(default_factory=dict)
    most: int = 0
    kernels: tuple[str, ...] = ()

    def named(self, name: Callable[[str], str]) -> Tried:
        return replace(self, because={name(m): lines for m, lines in self.because.items()})


class Machine:
    """What a piece asks of a machine."""

    low, dtype, device = None, torch.float32, DEVICE

    def __init__(self, graph: LevelGraph) -> None:
        self.graph, self.bodies, self.shape = graph, graph.bodies, Shape.of(graph.tick, graph.bodies)
        self.known = {r.id: r for r in graph.tick.records if isinstance(r, Stream)} | {
            p.id: p for p in graph.tick.inputs
        }
        self._facts: dict[int, Facts] = {}
        self._memories: dict[int, frozenset[str]] = {}
        self._found: dict[Any, Tried] = {}
        self.told: dict[int, Any] = {}

    def once(self, loop: Loop, tried: Callable[[Loop, Machine], Tried]) -> Tried:
        """What is found out about a loop holds for all loops of its kind."""
        needs = needs_of(loop, loop.nodes, self)
        found = self._found.get((needs.kind, tried))
        if found is None:
            with Outlines():  # type: ignore[no-untyped-call]
                found = self._found[needs.kind, tried] = tried(loop, self).named(needs.names.canonical)
        return found.named(needs.names.original)

    def facts(self, body: Body) -> Facts:
        found = self._facts.get(id(body))
        if found is None:
            found = self._facts[id(body)] = Facts.of(body, self.dtype, self.device)
        return found

    def gives(self, nodes: tuple[Node, ...]) -> frozenset[str]:
        return stages.given(nodes)

    def asked_for_start(self, body: Body) -> frozenset[str]:
        """All memories: a start that nobody asks for does no harm here."""
        found = self._memories.get(id(body))
        if found is None:
            found = self._memories[id(body)] = frozenset(r.id for r in body.records if isinstance(r, Memory))
        return found

    def start_value(self, parameters: Any, name: str, memory: Memory, leaf: Leaf) -> Tensor:
        return empty((memory.heads, *leaf.shape) if memory.heads else leaf.shape)


class Unsolved(Weight):
    """A weight of which only the forms are wanted."""

    def settle(self) -> None:
        self.asked()

    def _answered(self, reading: Reading) -> Tensor:
        return reading.u.new_empty(*reading.u.shape[:-1], self.shape[-1])

    def whole(self, form: Form) -> Tensor:
        batch, heads, ticks = self.lead
        return self.states["w"].new_empty(batch, ticks, heads, *self.shape)

    def after(self) -> dict[str, Tensor]:
        return dict(self.states)


def piece(loop: Loop, machine: Machine) -> Piece:
    """Two ticks of a loop, with all that it reads."""
    tick = machine.graph.tick
    values: dict[str, Any] = {}
    made = Piece(machine, tick, {}, values, {}, 1, TICKS, 0, clock_of(0, TICKS, DEVICE))
    opened = {r.id for r, _ in loop.nodes if isinstance(r, Memory)}
    asked = memories_of(loop.nodes, made.facts.memories)
    holding = [o for o in made.facts.learns if o.hold and asked & set(o.memories) and not opened & set(o.memories)]
    asked.update(m for learn in holding for m in learn.memories)
    for memory in made.facts.memories.values():
        if memory.id in asked - opened and memory.form != "attention" and memory.id in made.facts.running:
            memories.restart(made, memory, True)
    for learn in holding:
        made.frame[learn.id] = {"anchor": _anchor(made, learn)}
    for name in stages.used(loop.nodes, machine.shape.taken) - stages.given(loop.nodes):
        if name in machine.known:
            values[name] = _stream(machine.known[name])
    for record, part in loop.nodes:
        if isinstance(record, Objective) and part == "write" and (record, "gather") not in loop.nodes:
            values[f"gradient {record.id}"] = _gradient(made, record)
    return made


def empty(shape: tuple[Any, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(tuple(map(int, shape)), dtype=dtype, device=DEVICE)


def _stream(known: Stream | Port) -> Tensor:
    return empty((1, TICKS, max(1, known.heads), *known.shape), TYPES[known.dtype])


def _anchor(made: Piece, learn: Objective) -> dict[str, Tensor]:
    return {f"{m}.{leaf}": w for m in learn.memories for leaf, w in made.frame[m]["weights"].items()}


def _gradient(made: Piece, learn: Objective) -> dict[str, dict[str, Tensor]]:
    """As it is gathered: matrices that are used once as two factors, all else as a whole."""
    keyed = {f"{m}.{leaf}" for b in learn.bodies for m, leaf, _ in b.keys}
    found: dict[str, dict[str, Tensor]] = {"whole": {}, "x": {}, "d": {}, "keys": {}}
    for m in learn.memories:
        memory = made.facts.memories[m]
        for leaf in memory.leaves:
            name, lead = f"{m}.{leaf.name}", (1, TICKS, max(1, memory.heads))
            if name in keyed:
                found["x"][name] = found["keys"][name] = empty((*lead, leaf.shape[0]))
                found["d"][name] = empty((*lead, leaf.shape[1]))
            else:
                found["whole"][name] = empty((*lead, *leaf.shape))
    return found
