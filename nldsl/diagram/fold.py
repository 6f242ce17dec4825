"""What a level diagram shows: who reads whom without the streams in between, with repeated layers folded.

Everything here works on plain names and pairs of names, so that each step can be looked at by itself:
`flow` contracts the streams away, `Folding` gives the copies of a repeated memory one name, `collapse` lets a
crowd of small weights stand as one box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from nldsl.graph import LevelGraph, Memory, Objective, Stream
from nldsl.network import port_node

Pair = tuple[str, str]
LOSS = "loss"  # the node of the model's loss; a graph has at most one


class _Ancestry:
    """The pairs found so far, each reader with only its nearest sources: what A gave to B, C hears from B."""

    def __init__(self) -> None:
        self.pairs: dict[Pair, None] = {}
        self._above: dict[str, set[str]] = {}

    def read(self, sources: Iterable[str], reader: str) -> None:
        for source in self.nearest(sources):
            if source != reader:
                self.pairs[source, reader] = None
                self._above.setdefault(reader, set()).update({source}, self._above.get(source, set()))

    def nearest(self, sources: Iterable[str]) -> tuple[str, ...]:
        named = dict.fromkeys(sources)
        return tuple(a for a in named if not any(self._hides(b, a) for b in named))

    def _hides(self, near: str, far: str) -> bool:
        return far in self._above.get(near, ()) and near not in self._above.get(far, ())


def flow(graph: LevelGraph) -> list[Pair]:
    """Who reads whom through streams only, over memories, learns, ports and the loss (`LOSS`).

    A memory reads what its weights are combined with; a learn reads what its objective and its rates use.
    """
    found = _Ancestry()
    values: dict[str, tuple[str, ...]] = {p.id: (port_node(p),) for p in graph.tick.inputs}
    weights: dict[str, tuple[str, ...]] = {}  # streams made of nothing but weights, and of which

    def of(names: Iterable[object]) -> list[str]:
        return [o for n in names if isinstance(n, str) for o in (*values.get(n, ()), *weights.get(n, ()))]

    for record in graph.tick.records:
        match record:
            case Stream(op="weight"):
                weights[record.id] = (record.memory,)
            case Stream(op="recall" | "assign"):
                found.read(of(record.args), record.memory)
                values[record.id] = (record.memory,)
            case Stream():
                inputs = [v for a in record.args if isinstance(a, str) for v in values.get(a, ())]
                applied = [w for a in record.args if isinstance(a, str) for w in weights.get(a, ())]
                if not inputs:
                    weights[record.id] = tuple(dict.fromkeys(applied))
                    continue
                for memory in dict.fromkeys(applied):
                    found.read(inputs, memory)
                others = [v for v in inputs if v not in applied] if applied else []
                # A weight hides what went into it, but what came from elsewhere in the same sum stays.
                values[record.id] = found.nearest((*applied, *others) if applied else inputs)
            case Objective():
                reader = record.memories[0] if record.kind == "pairs" and record.memories else record.id
                inside = [s.memory for b in record.bodies for s in b.records if isinstance(s, Stream) and s.memory]
                rates = [a for rule in (record.optimizer, record.retention) if rule for a in rule.args]
                named = [p.stream for b in record.bodies for p in b.inputs]
                uses = of((*named, *record.pair, record.when, *record.weights, record.over_weight, *rates))
                found.read((*uses, *(m for m in inside if m not in record.memories)), reader)
            case Memory():
                found.read(of((record.reset_when,)), record.id)
    if graph.loss:
        found.read(of((graph.loss,)), LOSS)
    for out in graph.outs:
        found.read(of((out.stream,)), f"out:{out.id}")
    return list(found.pairs)


@dataclass(frozen=True)
class Folding:
    """Names without the indices of the repeats they stand in: `layers.3.K` -> `layers.*.K`."""

    repeats: frozenset[str]  # folded prefixes whose indices are 0, 1, … and more than one

    @classmethod
    def of(cls, names: Iterable[str]) -> Folding:
        indices: dict[str, set[int]] = {}
        for name in names:
            parts = name.split(".")
            for i, part in enumerate(parts[1:], 1):
                if part.isdecimal():
                    indices.setdefault(".".join(parts[:i]), set()).add(int(part))
        # Names such as `F_0.5` have numbers too; only 0, 1, … n - 1 are the indices of a repeat.
        return cls(frozenset(p for p, found in indices.items() if len(found) > 1 and found == set(range(len(found)))))

    def __call__(self, name: str) -> str:
        parts = name.split(".")
        return ".".join("*" if self._repeats(parts, i) else part for i, part in enumerate(parts))

    def carries(self, source: str, target: str) -> bool:
        """Whether the two stand in different rounds of one repeat."""
        a, b = source.split("."), target.split(".")
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            if x != y:
                return self._repeats(a, i) and self._repeats(b, i)
        return False

    def _repeats(self, parts: list[str], i: int) -> bool:
        return i > 0 and parts[i].isdecimal() and ".".join(parts[:i]) in self.repeats


def collapse(
    pairs: Iterable[Pair], carried: Iterable[Pair], members: set[str], group: str, order: Mapping[str, int]
) -> tuple[set[Pair], set[Pair]]:
    """The pairs when `members` are one box, and the pairs carried from round to round of a repeat.

    The box stands where the flow enters its members. A member that reads what others made of the box's values
    (the projection behind an attention) is passed through, so that the flow does not run back into the box.
    """
    pairs, carried = set(pairs), set(carried)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from(pairs)
    present = [m for m in members if m in graph]
    behind = {d for m in present for d in nx.descendants(graph, m)} - members
    seen: dict[str, set[str]] = {}
    for member in sorted(members, key=lambda m: order[m]):
        above = set(graph.predecessors(member)) if member in graph else set()
        passed: set[str] = set()
        for source in above:
            if source in behind:
                passed.add(source)
            elif source in members and seen.get(source, {group}) != {group}:
                passed |= seen[source]
        seen[member] = passed - {group} or {group}

    def renamed(found: set[Pair], entering: bool) -> set[Pair]:
        kept: set[Pair] = set()
        for a, b in found:
            if b in members and seen[b] != {group}:
                continue
            if entering or b not in members or a not in members:
                kept.update((s, group if b in members else b) for s in seen.get(a, {a}))
        return {(a, b) for a, b in kept if a != b}

    return renamed(pairs, False), renamed(carried, True)


def reduced(pairs: Iterable[Pair]) -> list[Pair]:
    """Without the pairs that a longer way implies; as they are if they run in a circle."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from(sorted(pairs))
    if nx.is_directed_acyclic_graph(graph):
        return sorted(nx.transitive_reduction(graph).edges)
    return sorted(graph.edges)
