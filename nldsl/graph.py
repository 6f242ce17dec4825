"""The level graph: a program with its names resolved, its sizes known and everything unrolled.

The records below say all there is to say; a `LevelGraph` is the networkx multi-digraph of them. A
program, an optimizer, a retention and an objective are all a `Body`: records that run from top to bottom
once per tick. The program's tick is a token, an optimizer's is one update of the memory it serves.

Shapes are per tick and per head; `heads` is an axis beside them, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Any

import networkx as nx

from nldsl.spans import NOWHERE, Span

Scalar = int | Fraction | float | bool
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """How often something happens: every `count` tokens, updates or steps; 0 is a closed form."""

    count: int
    unit: str = "token"

    def __str__(self) -> str:
        if self.count == 0:
            return "closed form"
        return f"every {self.unit}" if self.count == 1 else f"every {self.count} {self.unit}s"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One weight of a memory, `shape` per head. `init` draws its start:
    ("normal", std), ("uniform", low, high) or ("constant", value)."""

    name: str
    shape: Shape
    init: tuple[Any, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Memory:
    """Something that is kept from tick to tick. Its place in a body is where its tick opens: there it is restarted, if
    its reset says so, and there held states are taken.

    form: "weights" (nets; has leaves), "state" (`state s = 0`: one leaf named `value`, start not learned)
    or "attention" (keeps pairs; `window` of them, 0 for all, and `persistent` learned ones, its leaves).
    start: "learned" (the leaves' starts are parameters), "constant" (drawn once, no parameter), or
    "body" (`starts` computes it; one body per leaf over `start`, or over another memory's leaf).
    """

    id: str
    form: str
    heads: int
    leaves: tuple[Leaf, ...]
    start: str = "learned"
    starts: tuple[Body, ...] = ()
    reset_every: int = 0  # ticks; 0 is never
    reset_when: str = ""  # a bool stream
    window: int = 0
    persistent: int = 0
    key_size: int = 0  # attention: the sizes of its keys and values
    value_size: int = 0
    span: Span = NOWHERE


@dataclass(slots=True, unsafe_hash=True)  # nobody changes one; that Python sees to it would take five times as long
class Stream:
    """One value per tick: a primitive (`nldsl.primitives`) applied to streams and numbers.

    Besides the primitives `op` may be
      "weight"  the leaf `leaf` of `memory`, seen as `mode` says: "seen" (what any reader sees: the held state
                under `hold state`), "running" (in `M <- …`), and inside an objective "self" (carries the
                inner gradient) or "anchor" (the same value, as data);
      "recall"  attention's answer to the query args[0];
      "assign"  writes args[0] to the leaf, every `every` ticks; has no value.
    `clock` is how often the value can change, `lag` 1 for what is known one tick later.
    """

    id: str
    op: str
    args: tuple[str | Scalar, ...] = ()
    attrs: tuple[tuple[str, Any], ...] = ()
    shape: Shape = ()
    heads: int = 0
    dtype: str = "real"  # real, int, bool
    memory: str = ""
    leaf: str = ""
    mode: str = ""
    every: int = 1
    clock: Period = Period(1)
    lag: int = 0
    name: str = ""  # the stream's name in the text, if it has one
    span: Span = NOWHERE

    def attr(self, name: str, default: Any = None) -> Any:
        return next((value for key, value in self.attrs if key == name), default)


@dataclass(frozen=True, slots=True)
class Port:
    """A stream that comes from outside (`direction` "in": a program's input, or a role of a rule: g, w, key,
    u, start) or leaves (`direction` "out": `stream` is returned)."""

    id: str
    direction: str
    shape: Shape
    heads: int = 0
    dtype: str = "real"
    stream: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Body:
    """Records that run top to bottom once per tick. `inputs` are its in-ports: for an objective each carries in
    `stream` the outer stream it captures; for a rule the roles it needs and then its stream arguments.
    keys: for an objective, (memory, leaf, stream): the input of that matrix in the pass whose gradient is taken.
    """

    name: str
    inputs: tuple[Port, ...]
    records: tuple[Record, ...]
    results: tuple[str, ...]
    keys: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """An optimizer or a retention as a learn uses it.

    bodies: for each (memory, leaf) the name of its body in `LevelGraph.bodies`: update or new weight from the
    roles and `args`, the streams (of the learn's clock) given as arguments. Numbers are folded into the bodies.
    """

    name: str
    bodies: tuple[tuple[str, str, str], ...]
    args: tuple[str, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Objective:
    """One optimisation problem: what a `learn` says.

    memories: whom it teaches. kind: "local" (bodies: one per memory, or a single joint one), "loss" (the
    model's), or "pairs" (attention: `pair` is its key and value stream).
    rules: optimizer and retention, None for "pairs".
    """

    id: str
    kind: str
    memories: tuple[str, ...]
    bodies: tuple[Body, ...] = ()
    pair: tuple[str, str] = ("", "")
    optimizer: Rule | None = None
    retention: Rule | None = None
    every: Period = Period(1)
    hold: str = ""  # gradient, state
    hold_length: int = 0
    over: int = 0
    over_weight: str | Scalar = 1
    weights: tuple[str | Scalar, ...] = ()  # `weighted`, one factor per memory or none
    times: int = 1
    when: str = ""
    through: int = 0
    detached: bool = False
    level: str = ""  # the name after `at`
    spans: tuple[tuple[str, Span], ...] = ()  # the clauses, as written
    span: Span = NOWHERE

    def where(self, clause: str) -> Span:
        return dict(self.spans).get(clause, self.span)


Record = Memory | Stream | Objective


# Of streams a program has most, so what is done to each of them is done the fast way.
_values = attrgetter(*Stream.__slots__)
_setters = tuple(Stream.__dict__[name].__set__ for name in Stream.__slots__)


def changed(stream: Stream, **fields: Any) -> Stream:
    """A copy with some fields changed: `dataclasses.replace`, several times faster."""
    new = object.__new__(Stream)
    for put, value in zip(_setters, _values(stream), strict=True):
        put(new, value)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def named(stream: Stream, id: str) -> Stream:
    """A stream that was just made, and that nobody else holds, with its id."""
    stream.id = id
    return stream


# The paper's kinds of knowledge transfer (section 3.3).
DIRECT = "direct, parametric"
CONTEXT = "direct, non-parametric"
BACKPROPAGATION = "backpropagation"
INITIALISATION = "initialisation"
WEIGHTS = "weight generation"
STREAM = "context generation"


class LevelGraph(nx.MultiDiGraph):  # type: ignore[type-arg]
    """Nodes: a program's memories, streams, objectives, retentions, optimizers and ports, each with the attributes
    `kind`, `record`, `shape`, `clock`, `level` and `span`. Edges: `kind` is data, write, gradient, initial-state or
    hold, `transfer` one of the six kinds of knowledge transfer, `flow` whether gradient passes.

    program: its name. kind: model or block. hyper: the hyper-parameters it was built with. tick: the program's
    body. bodies: the rules' bodies by name. loss: the stream that is the model's loss, or "". outs: what is returned.
    """

    program: str
    kind: str
    hyper: tuple[tuple[str, Any], ...]
    tick: Body
    bodies: dict[str, Body]
    loss: str
    outs: tuple[Port, ...]
    level_names: tuple[tuple[str, Period], ...]

    def records(self, *kinds: type) -> Iterator[Any]:
        """The program's records of these kinds, in the order of the tick."""
        return (r for r in self.tick.records if isinstance(r, kinds))

    @property
    def memories(self) -> dict[str, Memory]:
        return {r.id: r for r in self.records(Memory)}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(self.records(Objective))

    @property
    def streams(self) -> dict[str, Stream]:
        return {r.id: r for r in self.records(Stream)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LevelGraph):
            return False
        return _facts(self) == _facts(other) and dict(self.nodes) == dict(other.nodes) and _edges(self) == _edges(other)

    __hash__ = object.__hash__


def _facts(graph: LevelGraph) -> tuple[Any, ...]:
    return (
        graph.program,
        graph.kind,
        graph.hyper,
        graph.tick,
        graph.bodies,
        graph.loss,
        graph.outs,
        graph.level_names,
    )


def _edges(graph: LevelGraph) -> list[Any]:
    return sorted((a, b, sorted(d.items(), key=str)) for a, b, d in graph.edges(data=True))
