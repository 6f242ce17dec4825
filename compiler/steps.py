"""Step bodies: what runs once per chunk, as a function of tensors alone, traced once into an FX graph.

A chunk's body depends on the number of its first tick only through what happens at its ends: which memories restart,
which holds begin, which windows end. Bodies for which these agree, and the shapes, are one body. It is run plainly at
first; when it is met again and again it is traced (and compiled, if that was asked for), so that nothing of Python or
of `torch.func` is left at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import stages
from nldsl.compiler.distribute import Loop, Node, Stage
from nldsl.compiler.piece import Piece
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from nldsl.graph import Body, Memory, Objective, Stream


@dataclass(frozen=True)
class Needs:
    """What a body reads: values made elsewhere, entries of the frame, memories whose parameters it uses."""

    values: tuple[str, ...]
    frame: tuple[str, ...]
    memories: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass
class Body_:
    """A body that was met: how often, and its graph once it has one."""

    met: int = 0
    call: Callable[..., Any] | None = None
    graph: fx.GraphModule | None = None
    spec: Any = None


def needs_of(nodes: Sequence[Node], machine: Any) -> Needs:
    """What these records read and give."""
    gives = machine.gives(nodes)
    made = stages.given(nodes)
    values = stages.used(nodes, machine.shape.taken) - made
    memories: set[str] = set()
    frame: set[str] = {record.id for record, _ in nodes}
    for record, _ in nodes:
        memories |= set(_memories(record, machine.shape.memories))
    for learn in machine.shape.learns.values():
        if memories & set(learn.memories):
            frame.add(learn.id)
    return Needs(tuple(sorted(values)), tuple(sorted(frame | memories)), tuple(sorted(memories)), gives)


def _memories(record: Any, known: Mapping[str, Memory]) -> Iterator[str]:
    if isinstance(record, Memory):
        yield record.id
        yield from _read([*record.starts], known)
    elif isinstance(record, Objective):
        yield from record.memories
        yield from _read(record.bodies, known)
    elif isinstance(record, Stream) and record.memory:
        yield record.memory
        yield from _read(known[record.memory].starts, known)
    if isinstance(record, Stream) and record.attr("serves"):
        yield str(record.attr("serves"))


def _read(bodies: Sequence[Body], known: Mapping[str, Memory]) -> Iterator[str]:
    for body in bodies:
        for record in body.records:
            if isinstance(record, Stream) and record.memory in known:
                yield record.memory
                yield from _read(known[record.memory].starts, known)


def phase(nodes: Sequence[Node], number: int, ticks: int) -> tuple[Any, ...]:
    """What the number of the first tick decides."""
    found: list[Any] = [number == 0]
    for record, _ in nodes:
        if isinstance(record, Memory):
            if record.reset_every:
                found.append(number % record.reset_every)
        elif isinstance(record, Objective):
            found.append(number % record.every.count if record.every.unit == "token" else 0)
            if record.hold:
                found.append(number % record.hold_length)
        elif record.every > 1:
            found.append(number % record.every)
    return (ticks, *found)


class Steps:
    """All bodies of a program that were met. patience: how often one is run plainly before it is traced.
    compiler: what a traced graph is handed to, None to run it as it is."""

    def __init__(self, patience: int = 8) -> None:
        self.patience = patience
        self.bodies: dict[Any, Body_] = {}
        self.compiler: Callable[[fx.GraphModule], Callable[..., Any]] | None = None
        self._needs: dict[int, Needs] = {}

    def run(self, piece: Piece, todo: Loop | Stage, nodes: Sequence[Node], alone: bool) -> None:
        """Run a body over a piece: a loop's stages, or its records one after the other."""
        if piece.second_order or piece.recorded or torch.compiler.is_compiling():
            body_of(piece, todo, nodes, alone)
            return
        assert isinstance(piece.number, int)
        needs = self._needs.get(id(todo))
        if needs is None:
            needs = self._needs[id(todo)] = needs_of(nodes, piece.machine)
        given = {
            "values": {n: piece.values[n] for n in needs.values if n in piece.values},
            "frame": {n: piece.frame[n] for n in needs.frame if n in piece.frame},
            "parameters": {
                n: piece.parameters[n] for n in piece.machine.parameters_of(needs.memories, piece.parameters)
            },
            "clock": piece.clock,
        }
        tensors: list[Tensor] = []
        spec = flattened(given, tensors)
        shapes = tuple((x.shape, x.dtype) for x in tensors)
        key = (id(todo), alone, phase(nodes, piece.number, piece.ticks), spec, shapes, tensors[0].device)
        body = self.bodies.setdefault(key, Body_())
        body.met += 1
        if body.met <= self.patience and self.compiler is None:
            body_of(piece, todo, nodes, alone)
            return
        if body.call is None:
            self._trace(body, piece, todo, nodes, alone, needs, spec, tensors)
        assert body.call is not None
        after = restored(body.spec, iter(body.call(*tensors)))
        piece.frame = piece.frame | after["frame"]
        for name in [n for n in needs.frame if n in piece.frame and n not in after["frame"]]:
            del piece.frame[name]
        for name, value in after["values"].items():
            piece.values[name] = value

    def _trace(
        self,
        body: Body_,
        piece: Piece,
        todo: Loop | Stage,
        nodes: Sequence[Node],
        alone: bool,
        needs: Needs,
        spec: Any,
        tensors: Sequence[Tensor],
    ) -> None:
        found: list[Any] = []

        def flat(*given: Tensor) -> list[Tensor]:
            inputs = restored(spec, iter(given))
            own = piece.within(piece.body, dict(inputs["values"]))
            own.frame, own.parameters, own.clock = dict(inputs["frame"]), inputs["parameters"], inputs["clock"]
            body_of(own, todo, nodes, alone)
            after = {
                "frame": {n: own.frame[n] for n in needs.frame if n in own.frame},
                "values": {n: own.values[n] for n in needs.gives if n in own.values},
            }
            out: list[Tensor] = []
            found[:] = [flattened(after, out)]
            return out

        graph = make_fx(flat)(*(x.detach() for x in tensors))
        graph.graph.eliminate_dead_code()
        graph.recompile()
        body.graph, body.spec = graph, found[0]
        body.call = graph if self.compiler is None else self.compiler(graph)


def body_of(piece: Piece, todo: Loop | Stage, nodes: Sequence[Node], alone: bool) -> None:
    if alone or not isinstance(todo, Loop):
        piece.run(tuple(nodes))
    else:
        stages.run(piece, todo.stages)


def flattened(value: Any, tensors: list[Tensor]) -> Any:
    """The form of nested dictionaries and lists, their tensors put aside; everything else is part of the form."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if isinstance(value, dict):
        return ("dict", *((n, flattened(v, tensors)) for n, v in value.items()))
    if isinstance(value, list):
        return ("list", *(flattened(v, tensors) for v in value))
    return ("is", value)


def restored(spec: Any, tensors: Iterator[Tensor]) -> Any:
    if spec is Tensor:
        return next(tensors)
    kind, *rest = spec
    if kind == "dict":
        return {n: restored(s, tensors) for n, s in rest}
    if kind == "list":
        return [restored(s, tensors) for s in rest]
    return rest[0]
