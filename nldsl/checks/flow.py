"""What a gradient can pass: of every value what it is computed from, and where a gradient is cut on the way.

Dependence is structural: an edge says that a derivative exists, not that it isn't zero. The values of a memory before
and after each write of a tick are kept apart, so that what a write forgets is not reached through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nldsl.checks.reach import LOSS, Cut, Edge, Node, Sources, forward, inputs, nearest_cut, needed, slopes, sweep
from nldsl.clocks import held
from nldsl.graph import Body, Memory, Objective, Rule, Stream
from nldsl.parameters import has_parameters, rule_memory


class Flow:
    """The dependences of one body. deps[target] lists what it is computed from."""

    def __init__(self, body: Body, bodies: Mapping[str, Body], summaries: dict[str, Sources] | None = None) -> None:
        self.body, self.bodies = body, bodies
        self.summaries = {} if summaries is None else summaries
        self.deps: dict[Node, list[Edge]] = {}
        self.objectives: dict[Any, tuple[Sources, ...]] = {}  # by their text and form: copies have the same
        self.version: dict[tuple[str, str], int] = {}
        self.hold = held(body.records)
        self.memories = {m.id: m for m in body.records if isinstance(m, Memory)}
        late = []
        for record in body.records:
            if isinstance(record, Stream):
                self._stream(record)
            elif isinstance(record, Memory):
                self._memory(record)
            elif record.every.unit != "step":
                if record.kind == "loss":
                    late.append(record)
                else:
                    self._learn(record)
        for record in late:  # their writes land between ticks
            self._learn(record)
        for (memory, leaf), count in self.version.items():
            if count:
                self.add(("value", memory, leaf, 0), ("value", memory, leaf, count))

    def add(self, target: Node, source: Node, cut: Cut | None = None, via: str = "") -> None:
        self.deps.setdefault(target, []).append((source, cut, via))

    def now(self, memory: str, leaf: str) -> Node:
        return ("value", memory, leaf, self.version.get((memory, leaf), 0))

    def written(self, memory: str, leaf: str, always: bool) -> Node:
        """A new value of a leaf; unless it is written at every tick, the old one may stand."""
        old = self.now(memory, leaf)
        self.version[memory, leaf] = self.version.get((memory, leaf), 0) + 1
        if not always:
            self.add(self.now(memory, leaf), old)
        return self.now(memory, leaf)

    def _stream(self, stream: Stream) -> None:
        if stream.op == "weight":
            held_back = stream.mode == "seen" and stream.memory in self.hold
            value = ("value", stream.memory, stream.leaf, 0) if held_back else self.now(stream.memory, stream.leaf)
            self.deps[stream.id] = [(value, None, "")]
            return
        self.deps[stream.id] = [(arg, cut, "") for arg, cut in inputs(stream)]
        if stream.op == "recall":
            self.add(stream.id, ("pairs", stream.memory))
            for leaf in self.memories[stream.memory].leaves:
                self.add(stream.id, ("value", stream.memory, leaf.name, 0))
        elif stream.op == "assign":
            new = self.written(stream.memory, stream.leaf, stream.every == 1)
            self.add(new, stream.id, None, f"{stream.memory} <- …")

    def _memory(self, memory: Memory) -> None:
        for leaf, start in zip(memory.leaves, memory.starts or (None,) * len(memory.leaves), strict=True):
            at: Node = ("start", memory.id, leaf.name)
            parameter: Node = ("parameter", f"{memory.id}.{leaf.name}")
            self.version.setdefault((memory.id, leaf.name), 0)
            self.add(("value", memory.id, leaf.name, 0), at)
            if start is None:
                if has_parameters(memory):
                    self.add(at, parameter)
                continue
            ports = {p.id for p in start.inputs}
            name = f"{memory.id}.{leaf.name}"
            for stream in start.records:
                if isinstance(stream, Stream):
                    here: Node = ("start of", name, stream.id)
                    if stream.op == "weight":
                        self.add(here, ("value", stream.memory, stream.leaf, 0))
                    for source, cut in inputs(stream):
                        self.add(here, parameter if source in ports else ("start of", name, source), cut)
            self.add(at, parameter if start.results[0] in ports else ("start of", name, start.results[0]))

    # Learns

    def _learn(self, learn: Objective) -> None:
        name = learn.id.rpartition(".")[2]
        blocked = Cut(f"`{name}` is `detached`", learn.where("detached")) if learn.detached else None
        if learn.kind == "pairs":
            for source in learn.pair:
                self.add(("pairs", learn.memories[0]), source, blocked, learn.id)
            return
        self.objective(learn)
        if learn.kind == "loss":
            for memory in learn.memories:
                self.add(("gradient", learn.id, memory), LOSS)
        condition = Cut("a condition has no gradient", learn.where("when"))
        for i, memory in enumerate(learn.memories):
            for factor, cut in (
                (learn.over_weight, None),
                (learn.when, condition),
                (learn.weights[i] if learn.weights else 1, None),
            ):
                if isinstance(factor, str) and factor:
                    self.add(("gradient", learn.id, memory), factor, cut)
        assert learn.optimizer is not None and learn.retention is not None
        retaining = {(m, leaf): b for m, leaf, b in learn.retention.bodies}
        always = learn.kind == "local" and learn.every.count == 1 and not learn.when
        for memory, leaf, by in learn.optimizer.bodies:
            if memory not in self.memories:
                continue
            sources = self._update(learn, memory, leaf, by, retaining.get((memory, leaf), ""))
            new = self.written(memory, leaf, always)
            for node, cut in sources.items():
                data = isinstance(node, tuple) and node[0] in ("gradient", "key")
                self.add(new, node, cut or (blocked if data else None), learn.id)
        if learn.kind == "local" and blocked is not None and not learn.over:
            self._live_factors(learn)

    def _live_factors(self, learn: Objective) -> None:
        """`detached` makes the gradient data, and not what it is weighted by."""
        for memory, factor in zip(learn.memories, learn.weights, strict=False):
            for leaf in self.memories[memory].leaves if isinstance(factor, str) else ():
                self.add(self.now(memory, leaf.name), str(factor), None, learn.id)

    def _update(self, learn: Objective, memory: str, leaf: str, by: str, retaining: str) -> Sources:
        """What a new weight is computed from: the roles and streams its rules really use."""
        keep: Sources = self.summary(retaining) if retaining else {"w": None, "u": None}
        used = [(learn.retention, retaining, port, cut) for port, cut in keep.items() if port != "u"]
        if "u" in keep:
            used += [(learn.optimizer, by, port, cut or keep["u"]) for port, cut in self.summary(by).items()]
        found: Sources = {}
        for rule, body, port, cut in used:
            assert rule is not None
            for node in self._role(learn, rule, memory, leaf, port, body):
                found[node] = None if node in found and found[node] is None else cut
        return found

    def _role(self, learn: Objective, rule: Rule, memory: str, leaf: str, port: Node, name: str) -> Iterator[Node]:
        """What stands behind a rule's input."""
        if isinstance(port, tuple):
            yield ("parameter", rule_memory(memory, leaf, rule.name, port[1]))
        elif port == "g":
            yield ("gradient", learn.id, memory)
        elif port == "total_norm":
            yield from (("gradient", learn.id, m) for m in learn.memories)
        elif port == "w":
            yield self.now(memory, leaf)
        elif port == "start":
            yield ("start", memory, leaf)
        elif port == "key":
            yield ("key", learn.id, memory, leaf)
        elif port.startswith("arg"):
            yield rule.args[int(port[3:])]
        else:
            yield next(p.stream for p in self.bodies[name].inputs if p.id == port)

    def objective(self, learn: Objective) -> None:
        """The gradient for each memory that a learn teaches and the keys: what of the tick they are computed from."""
        for i, body in enumerate(learn.bodies):
            streams = [s for s in body.records if isinstance(s, Stream)]
            shape = (learn.span, i, tuple((s.id, s.op, s.args, s.mode) for s in streams))
            if shape not in self.objectives:
                self.objectives[shape] = _of_objective(body, streams)
            ends: dict[Node, Node] = {p.id: p.stream for p in body.inputs}
            for stream in streams:
                if stream.op == "weight":
                    anchored = bool(learn.hold) if stream.mode != "seen" else stream.memory in self.hold
                    start: Node = ("value", stream.memory, stream.leaf, 0)
                    ends[stream.id] = start if anchored else self.now(stream.memory, stream.leaf)
            gradient, *keys = self.objectives[shape]
            for memory in learn.memories if len(learn.bodies) == 1 else learn.memories[i : i + 1]:
                self._join(("gradient", learn.id, memory), gradient, ends)
            for (memory, leaf, _), key in zip(body.keys, keys, strict=True):
                self._join(("key", learn.id, memory, leaf), key, ends)

    def _join(self, target: Node, sources: Sources, ends: Mapping[Node, Node]) -> None:
        self.deps.setdefault(target, []).extend((ends[s], cut, "") for s, cut in sources.items() if s in ends)

    def summary(self, name: str) -> Sources:
        """What a rule's result is computed from: its ports and the parameters inside it, and where they are cut."""
        if name not in self.summaries:
            body = self.bodies[name]
            deps = Flow(body, self.bodies, self.summaries).deps
            ports = {p.id for p in body.inputs}
            self.summaries[name] = ends_of(
                deps, body.results, lambda n: n in ports or (isinstance(n, tuple) and n[0] == "parameter")
            )
        return self.summaries[name]


def _of_objective(body: Body, streams: list[Stream]) -> tuple[Sources, ...]:
    """What of an objective's inputs and weights its gradient is computed from, then each of its keys."""
    deps: dict[Node, list[Edge]] = {s.id: [(arg, cut, "") for arg, cut in inputs(s)] for s in streams}
    slope: Node = ("slope",)
    deps[slope] = [(source, cut, "") for source, cut in slopes(body).items()]
    ends = {p.id for p in body.inputs} | {s.id for s in streams if s.op == "weight"}
    return tuple(ends_of(deps, [root], ends.__contains__) for root in (slope, *(key for _, _, key in body.keys)))


def ends_of(deps: Mapping[Node, list[Edge]], roots: Iterable[Node], end: Callable[[Node], bool]) -> Sources:
    """The ends that the roots are computed from, each with the cut nearest to it if no gradient comes there."""
    roots = [*roots]
    reached, everything = sweep(deps, roots), needed(deps, roots)
    ends = [n for n in everything if end(n)]
    if all(n in reached for n in ends):
        return dict.fromkeys(ends)
    after = forward(deps)
    return {n: None if n in reached else nearest_cut(after, n, everything) for n in ends}
