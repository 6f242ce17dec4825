"""Step bodies: what runs once per chunk, as a function of tensors alone, traced once into an FX graph.

A chunk's body depends on the number of its first tick only through what happens at its ends: which memories restart,
which holds begin, which windows end. Bodies for which these agree, and the shapes, are one body, in whichever layer
they stand. It is run plainly at first; when it is met again and again it is traced (and compiled, if that was asked
for), so that nothing of Python or of `torch.func` is left at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import FunctionType
from typing import Any

import torch
from nldsl.compiler import early, stages
from nldsl.compiler.asked import Asked, title
from nldsl.compiler.bodies.adjoint import Compiler
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.hoisting import Hoisted, hoisted
from nldsl.compiler.bodies.mapping import Mapped
from nldsl.compiler.bodies.nodes import results_of
from nldsl.compiler.bodies.scan import followed
from nldsl.compiler.bodies.tracing import traced
from nldsl.compiler.chunks import Cut
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Loop, Stage, Together
from nldsl.compiler.masks import LEAD
from nldsl.compiler.needs import Needs, mode, needs_of
from nldsl.compiler.nested import flattened, paths, restored
from nldsl.compiler.piece import Piece
from nldsl.compiler.recompute import Untraced
from nldsl.compiler.steady import Steady, owned
from torch import Tensor, fx, nn

_numbers = count()

Called = Callable[[Sequence[Tensor], bool], list[Tensor]]  # its inputs, and whether they will be given to it again


@dataclass
class Step:
    """A body that was met: how often, what is called, its graph once it is traced, what of it is done before the loop
    (for one chunk, and for many), which result an input is at the next chunk, whether that is of the same body as far
    as the state goes, which results are handed on as they are, the form of its results."""

    met: int = 0
    call: Called | None = None
    compiled: Callable[..., Any] | None = None
    graph: fx.GraphModule | None = None
    hoisted: Hoisted | None = None
    early: Called | None = None
    mapped: Mapped | None = None
    handed: Mapping[int, int] = field(default_factory=dict)
    steady: bool = False
    fixed: frozenset[int] = frozenset()
    form: Any = None
    title: str = ""


class Steps:
    """All bodies of a program that were met. patience: how often one is run plainly before it is traced.
    everything: whether what runs over all ticks is traced too. hoists: whether a part of a body is done beforehand.
    compiler: what bodies are handed to, None to run them as they are."""

    def __init__(self, patience: int = 8) -> None:
        self.patience, self.everything, self.hoists = patience, False, True
        self.bodies: dict[Any, Step] = {}
        self.own: set[Any] = set()  # bodies with numbers in them that one stage drew: each stage has its own
        self.compiler: Compiler | None = None
        self.stretched = False  # nothing may be traced now, as it will be run again
        self._needs: dict[int, Needs] = {}

    def compiled(self, compiler: Compiler) -> None:
        """Hand all bodies to a compiler from now on: a function, and whether its shapes may change."""
        self.compiler = compiler
        self.bodies.clear()

    def run(self, piece: Piece, todo: Stage, nodes: Sequence[Node], alone: bool) -> Steady | None:
        """Run a body over a piece: a loop's stages, or its records one after the other. Returns what runs the chunks
        after this one, if they may be of the same body."""
        if piece.plain or torch.compiler.is_compiling():
            body_of(piece, todo, nodes, alone)
            return None
        asked = self._asked(piece, todo, nodes, alone)
        shapes = tuple((x.shape, x.dtype) for x in asked.tensors)
        key = (alone, piece.ticks, asked.phase, shapes)
        body = self._body(key, asked)
        body.met += 1
        if body.met <= self.patience and self.compiler is None and not self.stretched:
            body_of(piece, todo, nodes, alone)
            return None
        if body.call is None and self.stretched:
            raise Untraced
        if body.call is None:
            self._trace(body, key, asked)
        early.foreseen(body, asked, self.compiler is not None)
        results = self._results(body, asked.tensors, asked.cut)
        self._finish(asked, body, results)
        return Steady(body, asked, results, self._scanned, self._packed) if body.steady and asked.cut else None

    def _scanned(self, body: Step, rows: list[list[Tensor]], cut: Cut, budget: int) -> list[list[Tensor]]:
        """The results of chunks that follow one another, the first of them at the cut. rows: their inputs; of the state
        only that of the first one counts."""
        cuts = [Cut(cut.cuts, i) for i in range(cut.index, cut.index + len(rows))]
        if self.stretched or not isinstance(body.call, Body):
            each = iter(cuts)
            return followed(rows, body.handed, lambda inputs: self._results(body, inputs, next(each)))
        exactly = self.compiler is not None
        rows = [[*x, *early.results(body, x, i, exactly)] for x, i in zip(rows, cuts, strict=True)]
        return body.call.scan(rows, budget)

    def _results(self, body: Step, tensors: list[Tensor], cut: Cut | None) -> list[Tensor]:
        assert body.call is not None
        known = early.results(body, tensors, cut, self.compiler is not None)
        return body.call([*tensors, *known], self.stretched)

    def called(self, graph: fx.GraphModule, handed: Mapping[int, int], stacks: str | None) -> Called:
        """How a body is called from now on: see `Body`."""
        return Body(graph, handed, self.compiler, stacks)

    def together(self, piece: Piece, stage: Together) -> None:
        """Run records over all ticks, compiled for any number of them."""
        if self.everything and not piece.plain:
            self.run(piece, stage, stage.nodes, False)
            return
        if self.compiler is None or piece.plain or torch.compiler.is_compiling():
            piece.run(stage.nodes)
            return
        asked = self._asked(piece, stage, stage.nodes, False)
        body = self._body((asked.phase, piece.ticks == 1), asked)
        body.met += 1
        if body.compiled is None:  # the first time it is run as it is, and so is known what it gives
            function = self._function(body, asked)
            self._finish(asked, body, function(*asked.tensors))
            body.compiled = self.compiler(function, None)
            return
        for x in asked.tensors:
            if x.dim() >= LEAD and x.shape[1] == piece.ticks > 1 and not isinstance(x, nn.Parameter):
                torch._dynamo.maybe_mark_dynamic(x, 1)
        self._finish(asked, body, body.compiled(*asked.tensors))

    def _body(self, key: Any, asked: Asked) -> Step:
        """The body for stages of this kind; one with numbers of its own is for one stage alone."""
        whole = self.key(key, asked)
        return self.bodies.setdefault((id(asked.todo), whole) if whole in self.own else whole, Step())

    def key(self, key: Any, asked: Asked) -> Any:
        """What bodies that do the same have in common."""
        return asked.needs.kind, asked.form, *key, *mode(asked.piece)

    def _trace(self, body: Step, key: Any, asked: Asked) -> None:
        flat = self._function(body, asked)
        graph = traced(flat, asked.tensors)
        whole = self.key(key, asked)
        if any(node.op == "get_attr" for node in graph.graph.nodes) and whole not in self.own:
            self.own.add(whole)
            self.bodies[id(asked.todo), whole] = self.bodies.pop(whole)
        body.title, body.graph = title(asked), graph
        places = {path: i for i, path in enumerate(paths(body.form)) if path[0] == "frame"}
        before = {path: i for i, path in enumerate(paths(asked.form)) if path[0] == "frame"}
        body.handed = {i: places[path] for path, i in before.items() if path in places}
        after = [x.meta["val"] for x in results_of(graph)]
        body.steady = dict(asked.form[1:])["frame"] == dict(body.form[1:])["frame"] and all(
            (asked.tensors[i].shape, asked.tensors[i].dtype) == (after[o].shape, after[o].dtype)
            for i, o in body.handed.items()
        )
        if self.hoists and isinstance(asked.piece.values, Cut) and not asked.piece.machine.budget:  # all chunks at once
            body.hoisted = hoisted(graph, early.stateless(asked.form))
        stacks = asked.tensors[0].device.type if body.steady and self.compiler is not None else None
        if body.hoisted:
            body.early = Body(body.hoisted.early, {}, None)
            body.mapped = Mapped(body.hoisted.early, self.patience, self.compiler)
        body.call = self.called(body.hoisted.late if body.hoisted else graph, body.handed, stacks)
        body.fixed = frozenset(body.call.numbers) if isinstance(body.call, Body) else frozenset()

    def _asked(self, piece: Piece, todo: Stage, nodes: Sequence[Node], alone: bool) -> Asked:
        needs = self._needs.get(id(todo))
        if needs is None:
            needs = self._needs[id(todo)] = needs_of(todo, nodes, piece.machine)
        names = piece.machine.parameters_of(needs.memories, piece.parameters)
        given = {
            "values": {n: piece.values[n] for n in needs.values if n in piece.values},
            "frame": {n: piece.frame[n] for n in needs.frame if n in piece.frame},
            "parameters": {n: piece.parameters[n] for n in names},
            "clock": piece.clock,
        }
        tensors: list[Tensor] = []
        form = flattened(given, tensors, needs.names.canonical)
        return Asked(piece, todo, nodes, alone, needs, form, [self._packed(x) for x in tensors])

    def _packed(self, x: Tensor) -> Tensor:
        """x in one piece, so that a traced view fits wherever a chunk lies: head by head, as products want it. A
        compiler also looks at the strides of axes with one entry, which a view sets right."""
        if x.dim() > LEAD and x.shape[1] > 1 and x.shape[2] > 1:
            rows = x.transpose(1, 2)
            return x if rows.is_contiguous() else rows.contiguous().transpose(1, 2)
        packed = x.contiguous()
        return packed if self.compiler is None or isinstance(x, nn.Parameter) else packed.view(x.shape)

    def _function(self, body: Step, asked: Asked) -> Callable[..., list[Tensor]]:
        """A body as a function of tensors. It leaves the form of its results with `body`."""
        machine, tick, number, batch = asked.piece.machine, asked.piece.body, asked.piece.number, asked.piece.batch
        needs, names = asked.needs, asked.needs.names

        def flat(*given: Tensor) -> list[Tensor]:
            inputs = restored(asked.form, iter(given), names.original)
            clock = inputs["clock"]
            own = Piece(machine, tick, dict(inputs["frame"]), dict(inputs["values"]), inputs["parameters"], batch,
                        clock.shape[1], number, clock)  # fmt: skip
            own.plain = True
            body_of(own, asked.todo, asked.nodes, asked.alone)
            after = {
                "frame": {n: own.frame[n] for n in needs.frame if n in own.frame},
                "values": {n: own.values[n] for n in needs.gives if n in own.values},
            }
            out: list[Tensor] = []
            form = flattened(after, out, names.canonical)
            if not torch.compiler.is_compiling():
                body.form = form
            return out

        # Code of its own, with a name of its own: torch keeps what it compiled with the code, and only so much of it;
        # and a number that was another one in a program before it would take for one that changes.
        code = flat.__code__.replace(co_name=f"body_{next(_numbers)}")
        return FunctionType(code, flat.__globals__, code.co_name, None, flat.__closure__)

    @staticmethod
    def _finish(asked: Asked, body: Step, results: Sequence[Tensor]) -> None:
        """Bring a piece up to date with what a body gave."""
        piece = asked.piece
        after = restored(body.form, iter(owned(body, results)), asked.needs.names.original)
        piece.frame = asked.needs.after(piece.frame, after["frame"])
        for name, value in after["values"].items():
            piece.values[name] = value


def body_of(piece: Piece, todo: Stage, nodes: Sequence[Node], alone: bool) -> None:
    if alone or not isinstance(todo, Loop):
        piece.run(tuple(nodes))
    else:
        stages.run(piece, todo.stages)
