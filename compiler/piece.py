"""A piece of a run: some ticks of one body, for a whole batch at once.

A frame holds what lasts from tick to tick: the id of a memory, learn or stream -> what it keeps, as nested dictionaries
of tensors. Every tensor has the leading axes [batch, time, heads]; what is the same everywhere has ones there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from nldsl.compiler import attention, forms, learning, memories, windows
from nldsl.compiler.halves import pays
from nldsl.compiler.masks import LEAD, Clock
from torch import Tensor

from nldsl.clocks import held
from nldsl.graph import Body, Memory, Objective, Record, Stream
from nldsl.torch_forms import Call

Frame = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What is read off a body once. running: the memories that are written in it. hold: those that are read where a
    learn holds them. above: the reads of attention that stand above a learn of it, each with that learn. projections:
    the products with matrices that are not written in it; products: those of a row and any matrix of a memory."""

    body: Body
    memories: Mapping[str, Memory]
    learns: tuple[Objective, ...]
    running: frozenset[str]
    hold: Mapping[str, Objective]
    gatherers: tuple[Stream, ...]
    calls: Mapping[str, Call]
    above: frozenset[tuple[str, str]]
    projections: frozenset[str]
    products: frozenset[str]

    @staticmethod
    def of(body: Body, dtype: torch.dtype, device: torch.device) -> Facts:
        learns = tuple(r for r in body.records if isinstance(r, Objective))
        known = {r.id: r for r in body.records if isinstance(r, Memory)}
        taught = {m for o in learns if o.every.unit != "step" for m in o.memories}
        written = {r.memory for r in body.records if isinstance(r, Stream) and r.op == "assign"}
        states = {m.id for m in known.values() if m.form == "state"}
        holders = {m: o for o in learns if o.hold == "state" for m in o.memories}
        place = {r.id: i for i, r in enumerate(body.records)}
        above = {
            (r.id, o.id)
            for r in body.records
            if isinstance(r, Stream) and r.op == "recall"
            for o in learns
            if o.kind == "pairs" and r.memory in o.memories and place[r.id] < place[o.id]
        }
        running = frozenset(taught | written | states)
        streams = {r.id: r for r in body.records if isinstance(r, Stream)}
        matrices = {s.id: s for s in streams.values() if s.op == "weight"}
        products = {s.id: matrices.get(str(s.args[1])) for s in streams.values() if s.op == "matmul"}
        return Facts(
            body,
            known,
            learns,
            running,
            {m: holders[m] for m in held(body.records)},
            tuple(r for r in body.records if isinstance(r, Stream) and r.op.startswith("window_")),
            forms.Calls(body, dtype, device),
            frozenset(above),
            frozenset(name for name, w in products.items() if w and w.memory in known.keys() - running),
            frozenset(name for name, w in products.items() if w and len(w.shape) == 2),
        )


@dataclass
class Piece:
    """Some ticks of a body under way.

    number: of the first tick; known beforehand, or in a rule [batch, 1, heads]. parameters: the learned starts by name.
    path, lanes: whose rule this body is, and how many copies it serves (they are part of the batch).
    recorded: values of `data(…)` to be used again. shift: what a replay adds to a memory's weights when it opens.
    """

    machine: Any
    body: Body
    frame: Frame
    values: dict[str, Any]
    parameters: Mapping[str, Tensor]
    batch: int
    ticks: int
    number: Clock
    clock: Tensor
    path: str = ""
    lanes: int = 1
    renewed: bool = False  # a rule whose memory may restart: it begins again where its counter is 0
    recorded: Mapping[str, Tensor] = field(default_factory=dict)
    shift: Any = None
    second_order: bool = False  # a gradient will be taken of a gradient
    plain: bool = False  # inside a body that is traced or replayed as a whole

    @property
    def facts(self) -> Facts:
        return self.machine.facts(self.body)  # type: ignore[no-any-return]

    def run(self, nodes: tuple[tuple[Record, str], ...]) -> None:
        """Run these records, in this order, each over all ticks."""
        watch = self.machine.watch if self.body is self.machine.graph.tick else None
        for record, part in nodes:
            if watch is not None:
                watch(record.id)
            if isinstance(record, Stream):
                self.values[record.id] = self.stream(record)
            elif isinstance(record, Memory):
                self.open(record)
            else:
                learning.learn(self, record, part)

    def open(self, memory: Memory) -> None:
        """The memory's tick begins. Where it restarts, its optimizers and its windows do too."""
        if memory.form == "attention":
            attention.opened(self, memory)
            return
        where = memories.open_memory(self, memory)
        if where is not False:
            windows.restarted(self, memory, where)
            for learn in self.facts.learns:
                if memory.id in learn.memories:
                    learning.forget(self, learn, memory, where)

    def stream(self, stream: Stream) -> Any:
        match stream.op:
            case "weight":
                return memories.weight(self, stream.memory, stream.leaf, stream.mode)
            case "tick":
                return self.clock.to(torch.float64 if self.path else self.machine.dtype)
            case "data" if stream.id in self.recorded:
                return self.recorded[stream.id]
        args: list[Any] = [self.values[a] if isinstance(a, str) else float(a) for a in stream.args]
        match stream.op:
            case "recall":
                return attention.recall(self, stream, args[0])
            case "assign":
                return memories.assign(self, stream, args[0])
            case "causal_conv":
                return windows.convolve(self, stream, args[0], args[1])
            case "window_sum" | "window_mean" | "window_last":
                x = args[0].to(self.machine.dtype) if args[0].dtype is torch.float64 else args[0]
                return windows.gather(self, stream, x, *args[1:])
        return self.applied(stream, args)

    def applied(self, stream: Stream, args: list[Any]) -> Any:
        """A primitive. Under autocast rows are multiplied by matrices in half precision, but for those of a rule."""
        low, call = self.machine.low, self.facts.calls[stream.id]
        if low is not None and not self.path and self._halved(stream.id, args):
            return forms.apply(stream, [x.to(low) for x in args], call).to(self.machine.dtype)
        return forms.apply(stream, args, call)

    def _halved(self, name: str, args: Sequence[Any]) -> bool:
        """Whether this is a product in half precision: always where nothing writes the matrix."""
        facts = self.facts
        if name in facts.projections or name not in facts.products:
            return name in facts.projections
        rows = args[0].shape[1] if args[1].shape[1] == 1 else 1  # as many as share a matrix
        return pays(self.machine.low, rows, args[1])

    def within(self, body: Body, values: dict[str, Any]) -> Piece:
        """The same ticks of a body inside this one: an objective, or the start of a memory."""
        return Piece(
            self.machine, body, self.frame, values, self.parameters, self.batch, self.ticks, self.number, self.clock,
            self.path, self.lanes, self.renewed,
        )  # fmt: skip


def clock_of(number: int | Tensor, ticks: int, device: torch.device) -> Tensor:
    """[1, ticks, 1]: the number of each tick."""
    return (number + torch.arange(ticks, device=device)).reshape(1, ticks, 1)


def whole(x: Tensor, piece: Piece, heads: int) -> Tensor:
    """x with its batch and heads written out (not its time)."""
    return x.expand(piece.batch, x.shape[1], max(heads, x.shape[2]), *x.shape[LEAD:])


def written_out(x: Tensor, batch: int, ticks: int) -> Tensor:
    """x with its batch and time written out. A mask that is known becomes a tensor."""
    if isinstance(x, bool):
        return torch.full((batch, ticks, 1), x)
    return x.expand(batch, ticks, *x.shape[2:])
