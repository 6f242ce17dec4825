"""The gradient contract: which loss reaches which parameter and which initial state, and through which writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nldsl.checks.flow import Flow, ends_of
from nldsl.checks.reach import LOSS, Cut, Edge, Node, forward, inputs, nearest_cut, needed, sweep
from nldsl.graph import LevelGraph, Objective, Stream
from nldsl.parameters import Parameter, learned_parameters
from nldsl.spans import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter, or one fixed start of a memory that learns while it reads.

    role: "weight", "initial state" (of a memory that is written on a token clock) or "fixed start" (no parameter).
    learned_by: the step-clock learn that claims it, or "". loss: what is meant to reach it, in words. span: where its
    memory or net stands. through: the writes the gradient passes on a way with the fewest of them; none is
    "directly". cut: where it ends, if it does.
    """

    parameter: str
    role: str
    learned_by: str
    loss: str
    memory: str
    span: Span = NOWHERE
    reached: bool = False
    through: tuple[str, ...] = ()
    cut: Cut | None = None

    @property
    def way(self) -> str:
        """How the gradient comes here, in words."""
        if not self.reached:
            return f"cut: {self.cut.what}" if self.cut else "not reached"
        return "through " + ", ".join(self.through) if self.through else "directly"


def contract(graph: LevelGraph) -> list[Row]:
    """A row for each parameter, in the order of the text, then for the fixed starts of memories that run."""
    return _Contract(graph).rows()


class _Contract:
    """One backward sweep from the loss; the reason for a cut is looked for only where one is."""

    def __init__(self, graph: LevelGraph) -> None:
        self.graph = graph
        self.memories = graph.memories
        self.streams = graph.streams
        self.flow = Flow(graph.tick, graph.bodies)
        self.deps = self.flow.deps
        self.deps[LOSS] = [(s, None, "") for s in ([graph.loss] if graph.loss else [o.stream for o in graph.outs])]
        self.reached = sweep(self.deps, [LOSS])
        self._after: dict[Node, list[tuple[Node, Cut | None]]] = {}
        self._needed: dict[Node, None] = {}

    def rows(self) -> list[Row]:
        claimed = claims(self.graph)
        goal = "`loss`" if self.graph.loss else f"what `{self.graph.program}` returns"
        running = _running(self.graph)
        spans = _rule_spans(self.graph)
        taught: dict[str, dict[str, Cut | None]] = {}
        rows = []
        for parameter in learned_parameters(self.graph).values():
            claim = next(iter(claimed.get(parameter.memory, ())), None)
            role = "initial state" if parameter.memory in running else "weight"
            by, span = claim.id if claim else "", self._span(parameter, spans)
            row = Row(parameter.name, role, by, goal, parameter.memory, span)
            if claim is None or claim.kind != "local":
                rows.append(self._row(row, ("parameter", parameter.name)))
                continue
            own = taught.get(claim.id) or taught.setdefault(claim.id, _taught(claim))
            cut = own.get(parameter.name, Cut("it does not use it", claim.where("minimizing")))
            goal_of = f"the objective of `{_short(claim.id)}`"
            rows.append(replace(row, loss=goal_of, reached=cut is None, cut=cut))
        known = {r.parameter for r in rows}
        for memory in self.memories.values():
            if memory.id in running and memory.form == "weights" and memory.start != "learned":
                for leaf in memory.leaves:
                    name = f"{memory.id}.{leaf.name}"
                    if name not in known:
                        row = Row(name, "fixed start", "", goal, memory.id, memory.span)
                        rows.append(self._row(row, ("start", memory.id, leaf.name)))
        return rows

    def _row(self, row: Row, node: Node) -> Row:
        if node in self.reached:
            return replace(row, reached=True, through=self.reached[node])
        return replace(row, cut=self._cut(node))

    def _span(self, parameter: Parameter, spans: Mapping[str, Span]) -> Span:
        if parameter.memory in self.memories:
            return self.memories[parameter.memory].span
        return next((spans[o] for o in owners(parameter.memory) if o in spans), NOWHERE)

    def _cut(self, node: Node) -> Cut:
        """Why a gradient does not come here: the cut nearest to it, or where what it makes is lost."""
        if not self._after:
            self._after, self._needed = forward(self.deps), needed(self.deps, [LOSS])
        if node in self._needed:
            return nearest_cut(self._after, node, self._needed) or Cut("no gradient passes")
        seen, queue = {node: None}, deque([node])
        while queue:
            last = queue.popleft()
            users = [t for t, _ in self._after.get(last, ())]
            if not users and (ended := self._ended(last)) is not None:
                return ended
            fresh = [t for t in users if t not in seen]
            seen.update(dict.fromkeys(fresh))
            queue += fresh
        kept = [n[1] for n in seen if isinstance(n, tuple) and n[0] in ("value", "pairs")]
        end = kept[-1] if kept else ""  # a memory that only its own writes use
        if end and not str(node[1]).startswith(f"{end}."):
            return Cut(f"`{_short(end)}` is never read", self.memories[end].span)
        if end and any(n[:2] == ("value", end) for n in self._needed if isinstance(n, tuple)):
            return Cut("it is overwritten before it is read")
        return Cut("nothing reads it")

    def _ended(self, node: Node) -> Cut | None:
        """A place where what was computed goes no further."""
        if isinstance(node, tuple):
            memory = self.memories.get(str(node[1])) if node[0] == "pairs" else None
            return Cut(f"`{_short(memory.id)}` is never read", memory.span) if memory else None
        stream = self.streams.get(node)
        if stream is None:
            return None
        shown = f"`{_short(stream.name)}`" if stream.name else "what is computed from it"
        for learn in self.graph.objectives:
            if any(p.stream == node for body in learn.bodies for p in body.inputs):
                return Cut(f"{shown} is used in `{_short(learn.id)}` alone, which passes no gradient to it", learn.span)
        return Cut(f"{shown} is never used")


def owners(path: str) -> Iterator[str]:
    """A path and what encloses it, the longest first."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def claims(graph: LevelGraph) -> dict[str, list[Objective]]:
    """The step-clock learns of each memory."""
    found: dict[str, list[Objective]] = {}
    for learn in graph.objectives:
        if learn.every.unit == "step":
            for memory in learn.memories:
                found.setdefault(memory, []).append(learn)
    return found


def _running(graph: LevelGraph) -> set[str]:
    """The memories written on a token clock: their parameters are initial states."""
    learned = {m for o in graph.objectives if o.every.unit != "step" for m in o.memories}
    return learned | {s.memory for s in graph.records(Stream) if s.op == "assign"}


def _rule_spans(graph: LevelGraph) -> dict[str, Span]:
    """Where the rule stands that serves each weight."""
    found: dict[str, Span] = {}
    for learn in graph.objectives:
        if learn.every.unit != "step" and learn.optimizer is not None:
            found |= {f"{m}.{leaf}": learn.optimizer.span for m, leaf, _ in learn.optimizer.bodies}
    return found


def _taught(learn: Objective) -> dict[str, Cut | None]:
    """For a local objective on the step clock: the weights its gradient reaches, and where it is cut for others."""
    found: dict[str, Cut | None] = {}
    for body in learn.bodies:
        deps: dict[Node, list[Edge]] = {}
        for stream in body.records:
            if isinstance(stream, Stream):
                deps[stream.id] = [(arg, cut, "") for arg, cut in inputs(stream)]
        weights = {s.id: s for s in body.records if isinstance(s, Stream) and s.mode in ("self", "anchor")}
        for node, cut in ends_of(deps, body.results, weights.__contains__).items():
            stream = weights[str(node)]
            name = f"{stream.memory}.{stream.leaf}"
            blocked = Cut("`data` blocks its gradient", stream.span) if stream.mode == "anchor" else cut
            found[name] = None if name in found and found[name] is None else blocked
    return found
