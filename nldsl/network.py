"""Records -> the networkx multi-digraph: one node per record, rule and port, one edge per dependence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nldsl.clocks import held, with_clocks
from nldsl.graph import (
    BACKPROPAGATION,
    CONTEXT,
    DIRECT,
    INITIALISATION,
    STREAM,
    WEIGHTS,
    Body,
    LevelGraph,
    Memory,
    Objective,
    Period,
    Port,
    Stream,
)
from nldsl.levels import Feeding, feeding, level_numbers, starts_of
from nldsl.parameters import has_parameters
from nldsl.primitives import PRIMITIVES

Edge = tuple[str, str, str, str, bool]  # from, to, kind, transfer, flow


def level_graph(
    program: str,
    kind: str,
    hyper: Sequence[tuple[str, Any]],
    tick: Body,
    bodies: Mapping[str, Body],
    loss: str,
    outs: Sequence[Port],
    level_names: Sequence[tuple[str, Period]],
) -> LevelGraph:
    """Body, rules -> LevelGraph, clocks and levels filled in."""
    graph = LevelGraph()
    graph.program, graph.kind, graph.hyper, graph.loss = program, kind, tuple(hyper), loss
    graph.tick, graph.level_names, graph.outs = with_clocks(tick), tuple(level_names), tuple(outs)
    graph.bodies = {name: with_clocks(body, "update") for name, body in bodies.items()}
    found = feeding(graph.tick, graph.bodies, loss)
    levels = level_numbers(found)
    _nodes(graph, found, levels)
    for source, target, edge, transfer, flow in _edges(graph, found):
        graph.add_edge(source, target, kind=edge, transfer=transfer, flow=flow)
    return graph


def _nodes(graph: LevelGraph, found: Feeding, levels: Mapping[str, int]) -> None:
    reached: dict[str, int] = {}

    def node(name: str, kind: str, record: Any, shape: Any, clock: Period, level: int, span: Any) -> None:
        graph.add_node(name, kind=kind, record=record, shape=shape, clock=clock, level=level, span=span)

    for port in graph.tick.inputs:
        node(port_node(port), "port", port, port.shape, Period(1), 0, port.span)
    for record in graph.tick.records:
        match record:
            case Memory():
                shape = tuple((leaf.name, leaf.shape) for leaf in record.leaves)
                period = found.members[record.id].period
                node(record.id, "memory", record, shape, period, levels[record.id], record.span)
            case Stream():
                own = [levels[record.memory]] if record.memory in levels else []
                below = [v for a in record.args if isinstance(a, str) and (v := reached.get(a, 0))]
                reached[record.id] = min(own + below, default=0)
                node(record.id, "stream", record, record.shape, record.clock, reached[record.id], record.span)
            case Objective():
                taught = (*record.memories, starts_of(record))
                level = max((levels[m] for m in taught if m in levels), default=0)
                node(record.id, "objective", record, (), record.every, level, record.span)
                if record.optimizer is not None:
                    node(f"{record.id} by", "optimizer", record.optimizer, (), record.every, level, record.where("by"))
                    where = record.where("retaining")
                    node(f"{record.id} retaining", "retention", record.retention, (), record.every, level, where)
    for member in found.members.values():
        if member.inner and member.id not in graph:
            memory = _inner(graph, member.learn, member.inner)
            shape = tuple((leaf.name, leaf.shape) for leaf in memory.leaves) if memory else ()
            span = memory.span if memory else None
            node(member.id, "memory", memory, shape, member.period, levels[member.id], span)
    for out in graph.outs:
        node(f"out:{out.id}", "port", out, out.shape, Period(1), reached.get(out.stream, 0), out.span)


def port_node(port: Port) -> str:
    return f"in:{port.id}"


def _inner(graph: LevelGraph, learn: str, name: str) -> Memory | None:
    """The record of a memory inside a learn's rule, from the first body that has it."""
    for objective in graph.objectives:
        for rule in (objective.optimizer, objective.retention):
            if objective.id == learn and rule is not None:
                for _, _, body in rule.bodies:
                    for record in graph.bodies[body].records:
                        if isinstance(record, Memory) and record.id == name:
                            return record
    return None


def _edges(graph: LevelGraph, found: Feeding) -> Iterator[Edge]:
    ports = {p.id: port_node(p) for p in graph.tick.inputs}
    hold, records = held(graph.tick.records), graph.memories
    inner: dict[tuple[str, str], list[str]] = {}  # what is inside a learn's rule, by learn and rule
    for member in found.members.values():
        if member.inner:
            inner.setdefault((member.learn, member.rule), []).append(member.id)
    running = {m for r in graph.objectives if r.every.unit != "step" for m in r.memories} | {
        s.memory for s in graph.records(Stream) if s.op == "assign"
    }

    def at(stream: str) -> str:
        return ports.get(stream, stream)

    for record in graph.tick.records:
        match record:
            case Stream():
                smooth = record.op in ("weight", "recall", "assign") or PRIMITIVES[record.op].smooth
                for arg in record.args:
                    if isinstance(arg, str):
                        yield at(arg), record.id, "data", DIRECT, smooth
                if record.op == "assign":
                    yield record.id, record.memory, "write", WEIGHTS, True
                elif record.memory:
                    kind = "hold" if record.memory in hold and record.mode == "seen" else "data"
                    yield record.memory, record.id, kind, CONTEXT if record.op == "recall" else DIRECT, True
            case Memory():
                for body in record.starts:
                    for other in {s.memory for s in body.records if isinstance(s, Stream) and s.op == "weight"}:
                        yield other, record.id, "initial-state", INITIALISATION, True
            case Objective():
                yield from _learn_edges(graph, record, at, running, records, inner)
    for out in graph.outs:
        yield at(out.stream), f"out:{out.id}", "data", DIRECT, True


def _learn_edges(
    graph: LevelGraph,
    learn: Objective,
    at: Any,
    running: set[str],
    records: Mapping[str, Memory],
    inner: Mapping[tuple[str, str], list[str]],
) -> Iterator[Edge]:
    flow = not learn.detached
    outermost = learn.every.unit == "step"
    for source in dict.fromkeys(p.stream for b in learn.bodies for p in b.inputs if p.stream):
        yield at(source), learn.id, "data", STREAM, flow
    for factor in (*learn.pair, learn.when, *learn.weights, learn.over_weight):
        if isinstance(factor, str) and factor:
            yield at(factor), learn.id, "data", STREAM, flow and factor != learn.when
    if learn.kind == "loss" and graph.loss:
        yield at(graph.loss), learn.id, "data", STREAM, flow
    if learn.kind == "pairs":
        yield learn.id, learn.memories[0], "write", CONTEXT, flow
        return
    inside = {s.memory for b in learn.bodies for s in b.records if isinstance(s, Stream) and s.op == "weight"}
    for memory in dict.fromkeys((*(learn.memories if learn.kind == "local" else ()), *sorted(inside))):
        kind = "hold" if learn.hold and memory in learn.memories else "data"
        yield memory, learn.id, kind, DIRECT, flow
    by, retaining = f"{learn.id} by", f"{learn.id} retaining"
    yield learn.id, by, "gradient", BACKPROPAGATION if learn.kind == "loss" else STREAM, flow and not outermost
    yield by, retaining, "data", WEIGHTS, not outermost
    for rule, node in ((learn.optimizer, by), (learn.retention, retaining)):
        for source in rule.args if rule else ():
            yield at(source), node, "data", DIRECT, True
        for name in inner.get((learn.id, rule.name), ()) if rule else ():
            yield node, name, "write", WEIGHTS, not outermost
            yield name, node, "data", DIRECT, not outermost
    for memory in learn.memories:
        if memory not in graph:
            continue
        if outermost and memory in running and memory in records and has_parameters(records[memory]):
            yield retaining, memory, "initial-state", INITIALISATION, not outermost
        else:
            yield retaining, memory, "write", WEIGHTS, not outermost
