"""Levels (rule 18): which memory is inner to which. Derived from periods and from who uses whose new value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from nldsl.clocks import held, order, periods
from nldsl.graph import Body, LevelGraph, Memory, Objective, Period, Stream
from nldsl.parameters import has_parameters


@dataclass(frozen=True)
class Member:
    """Something with a pace of its own: a memory of the program, a state or memory inside a learn's rule, or the
    starts that a learn on the step clock teaches."""

    id: str
    period: Period
    learn: str = ""  # for what is inside a rule, and for starts: the learn they are of
    rule: str = ""  # the name of that rule
    inner: str = ""  # and its own name there


@dataclass
class Feeding:
    """Who feeds whom: an edge where B's write uses A's value after A's write of that tick."""

    members: dict[str, Member] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)


Fresh = frozenset[str]


def feeding(tick: Body, bodies: Mapping[str, Body], loss: str) -> Feeding:
    found = Feeding()
    for memory, period in periods(tick.records).items():
        found.members[memory] = Member(memory, period)
    fresh = _walk(tick, bodies, found, {}, "")

    def of(names: Iterable[object]) -> Fresh:
        return frozenset().union(*(fresh.get(n, frozenset()) for n in names if isinstance(n, str)))

    learns = [r for r in tick.records if isinstance(r, Objective)]
    memories = [r for r in tick.records if isinstance(r, Memory)]
    slow = {m for o in learns if o.kind == "loss" for m in o.memories}
    for learn in learns:
        if learn.kind == "loss" and learn.every.unit == "token":
            uses = of((loss, learn.when, *learn.weights)) - slow
            _serve(learn, uses, bodies, found, of=of)
        elif learn.every.unit == "step":
            if any(_starts(memory, found) for memory in memories if memory.id in learn.memories):
                found.members[starts_of(learn)] = Member(starts_of(learn), learn.every, learn.id)
            _serve(learn, frozenset(), bodies, found)
    return found


def starts_of(learn: Objective) -> str:
    """The member that stands for the starts a learn on the step clock teaches: what a faster learn writes is a running
    copy, and its start is a parameter of this one (rule 14), at this one's pace."""
    return f"{learn.id} starts"


def _starts(memory: Memory, found: Feeding) -> bool:
    """Whether a learn on the step clock teaches a memory's start and not the memory."""
    return bool(memory.leaves) and has_parameters(memory) and found.members[memory.id].period.unit != "step"


def _walk(
    body: Body, bodies: Mapping[str, Body], found: Feeding, given: Mapping[str, Fresh], prefix: str
) -> dict[str, Fresh]:
    """For every stream the memories whose value of after this tick's write it uses; notes who feeds whom."""
    fresh: dict[str, Fresh] = dict(given)
    hold = held(body.records)
    written: set[str] = set()

    def of(names: Iterable[object]) -> Fresh:
        return frozenset().union(*(fresh.get(n, frozenset()) for n in names if isinstance(n, str)))

    for record in body.records:
        match record:
            case Stream(op="weight" | "recall"):
                seen = record.memory in written and not (record.memory in hold and record.mode == "seen")
                fresh[record.id] = of(record.args) | ({prefix + record.memory} if seen else frozenset())
            case Stream(op="assign"):
                written.add(record.memory)
                _note(found, of(record.args), prefix + record.memory)
            case Stream():
                fresh[record.id] = of(record.args)
            case Objective(every=Period(unit="step")) | Objective(kind="loss"):
                pass
            case Objective():
                inside = [s for b in record.bodies for s in b.records if isinstance(s, Stream) and s.op == "weight"]
                above = {prefix + s.memory for s in inside if s.mode == "seen" and s.memory in written}
                captured = [p.stream for b in record.bodies for p in b.inputs]
                uses = of((*captured, *record.pair, record.when, *record.weights, record.over_weight)) | above
                _serve(record, uses, bodies, found, prefix, of)
                written.update(record.memories)
    return fresh


def _serve(
    learn: Objective,
    uses: Fresh,
    bodies: Mapping[str, Body],
    found: Feeding,
    prefix: str = "",
    of: Callable[[Iterable[object]], Fresh] = lambda names: frozenset(),
) -> None:
    """One learn's write: what it uses feeds its memories, and what is inside its rules lies between."""
    feeding_rule = uses
    for rule in (learn.optimizer, learn.retention):
        if rule is None:
            continue
        rates = of(rule.args)
        feeding_rule |= rates
        for name in dict.fromkeys(b for _, _, b in rule.bodies):
            inner = f"{prefix}{learn.id} {rule.name}."
            for memory, period in periods(bodies[name].records, "update").items():
                count = learn.every.count * period.count if period.unit == "update" else period.count
                unit = learn.every.unit if period.unit == "update" else period.unit
                found.members[inner + memory] = Member(inner + memory, Period(count, unit), learn.id, rule.name, memory)
            given = {p.id: (uses if p.id in ("g", "u", "key", "total_norm") else rates) for p in bodies[name].inputs}
            after = _walk(bodies[name], bodies, found, given, inner)
            feeding_rule |= after.get(bodies[name].results[0], frozenset())
    for memory in learn.memories:
        # A memory's place among its equals is that of its fastest writes: a slower learn of it says nothing there.
        if prefix or memory not in found.members or found.members[memory].period == learn.every:
            _note(found, feeding_rule, prefix + memory)
    if not prefix and starts_of(learn) in found.members:
        _note(found, feeding_rule, starts_of(learn))


def _note(found: Feeding, sources: Fresh, target: str) -> None:
    found.edges.update((s, target) for s in sources if s != target)


def layers(found: Feeding) -> tuple[list[list[Member]], list[list[str]]]:
    """The levels, fastest first, and the cycles that stand in the way of some. A period class is layered by longest
    paths; closed forms, solved anew at each read, are one level."""
    levels: list[list[Member]] = []
    cycles: list[list[str]] = []
    classes = sorted({m.period for m in found.members.values()}, key=order)
    for period in classes:
        members = [m for m in found.members.values() if m.period == period]
        same: nx.DiGraph[str] = nx.DiGraph()
        same.add_nodes_from(m.id for m in members)
        if period.count:
            same.add_edges_from((a, b) for a, b in found.edges if a in same and b in same)
        try:
            generations: Sequence[Sequence[str]] = list(nx.topological_generations(same))
        except nx.NetworkXUnfeasible:
            cycles.append([a for a, _ in nx.find_cycle(same)])
            generations = [list(same)]
        levels += [[found.members[i] for i in sorted(g, key=list(found.members).index)] for g in generations]
    return levels, cycles


def levels_of(graph: LevelGraph) -> list[list[Member]]:
    """The levels of a graph, fastest first."""
    return layers(feeding(graph.tick, graph.bodies, graph.loss))[0]


def level_numbers(found: Feeding) -> dict[str, int]:
    """The number of each member's level, 1 for the fastest."""
    return {m.id: i + 1 for i, level in enumerate(layers(found)[0]) for m in level}


__all__ = ["Feeding", "Member", "Memory", "feeding", "layers", "level_numbers", "levels_of", "starts_of"]
