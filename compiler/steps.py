"""Step bodies: what runs once per chunk, as a function of tensors alone, traced once into an FX graph.

A chunk's body depends on the number of its first tick only through what happens at its ends: which memories restart,
which holds begin, which windows end. Bodies for which these agree, and the shapes, are one body. It is run plainly at
first; when it is met again and again it is traced (and compiled, if that was asked for), so that nothing of Python or
of `torch.func` is left at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from nldsl.compiler import stages
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Loop, Stage, Together
from nldsl.compiler.joining import joined
from nldsl.compiler.masks import LEAD
from nldsl.compiler.piece import Piece
from nldsl.compiler.tidy import tidied
from torch import Tensor, fx, nn
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
class Step:
    """A body that was met: how often, what is called, its graph once it is traced, the form of its results."""

    met: int = 0
    call: Callable[..., Any] | None = None
    graph: fx.GraphModule | None = None
    form: Any = None
    title: str = ""


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


def phase(nodes: Sequence[Node], memories: Sequence[str], piece: Piece) -> tuple[Any, ...]:
    """What the number of a piece's first tick decides. memories: all that the records read or write; windows begin
    where they restart, and their learns take hold of them, wherever these stand."""
    number = piece.number
    assert isinstance(number, int)
    resets = [piece.facts.memories[m].reset_every for m in memories if piece.facts.memories[m].reset_every]
    found: list[Any] = [bool(resets) and number == 0]
    for record, _ in nodes:
        if isinstance(record, Objective):
            found.append(number % record.every.count if record.every.unit == "token" else 0)
        elif isinstance(record, Stream) and record.every > 1:
            found.append(number % record.every)
    holds = [o.hold_length for o in piece.facts.learns if o.hold and not set(memories).isdisjoint(o.memories)]
    return (*found, *(number % n for n in (*resets, *holds)))


class Steps:
    """All bodies of a program that were met. patience: how often one is run plainly before it is traced.
    everything: whether what runs over all ticks is traced too.
    compiler: what bodies are handed to, None to run them as they are."""

    def __init__(self, patience: int = 8) -> None:
        self.patience, self.everything = patience, False
        self.bodies: dict[Any, Step] = {}
        self.compiler: Callable[[Callable[..., Any], bool | None], Callable[..., Any]] | None = None
        self._needs: dict[int, Needs] = {}

    def compiled(self, compiler: Callable[[Callable[..., Any], bool | None], Callable[..., Any]]) -> None:
        """Hand all bodies to a compiler from now on: a function, and whether its shapes may change."""
        self.compiler = compiler
        self.bodies.clear()

    def run(self, piece: Piece, todo: Stage, nodes: Sequence[Node], alone: bool) -> None:
        """Run a body over a piece: a loop's stages, or its records one after the other."""
        if piece.plain or torch.compiler.is_compiling():
            body_of(piece, todo, nodes, alone)
            return
        needs, spec, tensors = self._asked(piece, todo, nodes)
        shapes = tuple((x.shape, x.dtype) for x in tensors)
        key = (id(todo), alone, piece.ticks, phase(nodes, needs.memories, piece), spec, shapes, *mode(piece))
        body = self.bodies.setdefault(key, Step())
        body.met += 1
        if body.met <= self.patience and self.compiler is None:
            body_of(piece, todo, nodes, alone)
            return
        if body.call is None:
            flat = self._function(piece, todo, nodes, alone, needs, spec, body)
            body.title = title(todo, alone, piece)
            body.graph = make_fx(flat)(*(x.detach() for x in tensors))
            tidied(body.graph.graph)
            joined(body.graph.graph)
            body.graph.recompile()
            body.call = self.called(body.graph)
        self._finish(piece, body, needs, body.call(*tensors))

    def called(self, graph: fx.GraphModule) -> Callable[..., Any]:
        """What is called in place of a body from now on."""
        return graph if self.compiler is None else self.compiler(graph, False)

    def together(self, piece: Piece, stage: Together) -> None:
        """Run records over all ticks, compiled for any number of them."""
        if self.everything and not piece.plain:
            self.run(piece, stage, stage.nodes, False)
            return
        if self.compiler is None or piece.plain or torch.compiler.is_compiling():
            piece.run(stage.nodes)
            return
        needs, spec, tensors = self._asked(piece, stage, stage.nodes)
        key = (id(stage), phase(stage.nodes, needs.memories, piece), spec, piece.ticks == 1, *mode(piece))
        body = self.bodies.setdefault(key, Step())
        body.met += 1
        if body.call is None:  # the first time it is run as it is, and so is known what it gives
            function = self._function(piece, stage, stage.nodes, False, needs, spec, body)
            self._finish(piece, body, needs, function(*tensors))
            body.call = self.compiler(function, None)
            return
        for x in tensors:
            if x.dim() >= LEAD and x.shape[1] == piece.ticks > 1 and not isinstance(x, nn.Parameter):
                torch._dynamo.maybe_mark_dynamic(x, 1)
        self._finish(piece, body, needs, body.call(*tensors))

    def _asked(self, piece: Piece, todo: Stage, nodes: Sequence[Node]) -> tuple[Needs, Any, list[Tensor]]:
        """What a body needs, of which form, and its tensors."""
        needs = self._needs.get(id(todo))
        if needs is None:
            needs = self._needs[id(todo)] = needs_of(nodes, piece.machine)
        names = piece.machine.parameters_of(needs.memories, piece.parameters)
        given = {
            "values": {n: piece.values[n] for n in needs.values if n in piece.values},
            "frame": {n: piece.frame[n] for n in needs.frame if n in piece.frame},
            "parameters": {n: piece.parameters[n] for n in names},
            "clock": piece.clock,
        }
        tensors: list[Tensor] = []
        form = flattened(given, tensors)
        return needs, form, [self._packed(x) for x in tensors]

    def _packed(self, x: Tensor) -> Tensor:
        """x in one piece, so that a traced view fits wherever a chunk lies: head by head, as products want it. A
        compiler also looks at the strides of axes with one entry, which a view sets right."""
        if x.dim() > LEAD and x.shape[1] > 1 and x.shape[2] > 1:
            return x.transpose(1, 2).contiguous().transpose(1, 2)
        packed = x.contiguous()
        return packed if self.compiler is None or isinstance(x, nn.Parameter) else packed.view(x.shape)

    def _function(
        self, piece: Piece, todo: Stage, nodes: Sequence[Node], alone: bool, needs: Needs, spec: Any, body: Step
    ) -> Callable[..., list[Tensor]]:
        """A body as a function of tensors. It leaves the form of its results with `body`."""
        machine, tick, number, batch = piece.machine, piece.body, piece.number, piece.batch

        def flat(*given: Tensor) -> list[Tensor]:
            inputs = restored(spec, iter(given))
            clock = inputs["clock"]
            own = Piece(machine, tick, dict(inputs["frame"]), dict(inputs["values"]), inputs["parameters"], batch,
                        clock.shape[1], number, clock)  # fmt: skip
            own.plain = True
            body_of(own, todo, nodes, alone)
            after = {
                "frame": {n: own.frame[n] for n in needs.frame if n in own.frame},
                "values": {n: own.values[n] for n in needs.gives if n in own.values},
            }
            out: list[Tensor] = []
            form = flattened(after, out)
            if not torch.compiler.is_compiling():
                body.form = form
            return out

        # A code object of its own: torch keeps what it compiled with the code, and only so much of it.
        code = flat.__code__.replace(co_name=f"body_{len(self.bodies)}")
        return FunctionType(code, flat.__globals__, code.co_name, None, flat.__closure__)

    @staticmethod
    def _finish(piece: Piece, body: Step, needs: Needs, results: Sequence[Tensor]) -> None:
        """Bring a piece up to date with what a body gave."""
        after = restored(body.form, iter(results))
        gone = [n for n in needs.frame if n in piece.frame and n not in after["frame"]]
        piece.frame = {n: v for n, v in (piece.frame | after["frame"]).items() if n not in gone}
        for name, value in after["values"].items():
            piece.values[name] = value


def title(todo: Stage, alone: bool, piece: Piece) -> str:
    """What a body is, in a few words."""
    ticks = f"{piece.ticks} tick{'s' if piece.ticks > 1 else ''} from {piece.number} on"
    if isinstance(todo, Together):
        return f"{len(todo.nodes)} records over {ticks}"
    return f"{', '.join(todo.memories) or 'attention'}, {ticks}{', record by record' if alone else ''}"


def mode(piece: Piece) -> tuple[Any, ...]:
    """What decides how a body computes, besides its text and shapes."""
    return piece.batch, piece.clock.device, piece.machine.low, torch.is_grad_enabled()


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
