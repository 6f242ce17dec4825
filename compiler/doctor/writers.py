"""Who writes a program's memories while it runs, and which streams are their rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nldsl.graph import LevelGraph, Memory, Objective, Stream

SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "^"}
SAME = ("reshape", "split", "data")  # another shape, the same numbers
DEEPEST = 3  # operations of an expression that are shown


@dataclass(frozen=True)
class Writer:
    """A learn on the token clock, or all `M <- …` of a memory at one pace. when: the stream of its condition, or ""."""

    name: str
    kind: str  # local, loss, pairs, assign
    memories: tuple[str, ...]
    every: int
    when: str = ""
    learn: Objective | None = None


@dataclass(frozen=True)
class Gate:
    """A stream that is a rate of some memories. text: as it stands in the program. roles: who takes it. every: the
    ticks from one use to the next."""

    stream: str
    text: str
    roles: tuple[str, ...]
    memories: tuple[str, ...]
    every: int = 1


def written(graph: LevelGraph) -> dict[str, Memory]:
    """The memories that can change while the program runs, in the order of the text."""
    names = {m for writer in writers(graph) for m in writer.memories}
    return {n: m for n, m in graph.memories.items() if n in names or m.form == "state"}


def writers(graph: LevelGraph) -> list[Writer]:
    found = [
        Writer(o.id, o.kind, o.memories, o.every.count, o.when, o)
        for o in graph.objectives
        if o.every.unit == "token" and o.memories
    ]
    assigned = dict.fromkeys((s.memory, s.every) for s in graph.streams.values() if s.op == "assign")
    return found + [Writer(f"{memory} <- …", "assign", (memory,), every) for memory, every in assigned]


def gates(graph: LevelGraph) -> list[Gate]:
    """Every stream that reaches an optimizer, a retention or a factor (`weighted`) of a learn on the token clock, or
    that scales a memory in `M <- …`; one that serves several is one gate."""
    merged: dict[tuple[str, int], Gate] = {}
    for gate in (*_of_learns(graph), *_of_assigns(graph)):
        key = gate.stream, gate.every
        before = merged.get(key, gate)
        roles = tuple(dict.fromkeys((*before.roles, *gate.roles)))
        memories = tuple(dict.fromkeys((*before.memories, *gate.memories)))
        merged[key] = Gate(gate.stream, gate.text, roles, memories, gate.every)
    return list(merged.values())


def _of_learns(graph: LevelGraph) -> Iterator[Gate]:
    streams = graph.streams
    for writer in writers(graph):
        learn = writer.learn
        if learn is None:
            continue
        for rule in (learn.optimizer, learn.retention):
            for name in rule.args if rule else ():
                yield gate_of(name, streams, rule.name if rule else "", learn.memories, learn.every.count)
        for i, weight in enumerate(learn.weights):
            if isinstance(weight, str):
                yield gate_of(weight, streams, "weighted", learn.memories[i : i + 1])
        if isinstance(learn.over_weight, str):
            yield gate_of(learn.over_weight, streams, "over", learn.memories)


def _of_assigns(graph: LevelGraph) -> Iterator[Gate]:
    streams = graph.streams
    for stream in streams.values():
        value = streams.get(str(stream.args[0])) if stream.op == "assign" else None
        if value is None or value.op != "mul":
            continue
        for name, other in (value.args, value.args[::-1]):
            weight = streams.get(str(other))
            if isinstance(name, str) and weight is not None and (weight.op, weight.memory) == ("weight", stream.memory):
                yield gate_of(name, streams, "<-", (stream.memory,), stream.every)


def gate_of(name: str, streams: Mapping[str, Stream], role: str, memories: tuple[str, ...], every: int = 1) -> Gate:
    while name in streams and streams[name].op in SAME and not streams[name].name:
        name = str(streams[name].args[0])
    return Gate(name, text_of(name, streams), (role,), memories, every)


def text_of(value: object, streams: Mapping[str, Stream], depth: int = DEEPEST) -> str:
    """A stream as it could stand in the text: its own name, or what it is made of."""
    stream = streams.get(value) if isinstance(value, str) else None
    if stream is None:
        return str(value)
    if stream.name:
        return stream.name.rpartition(".")[2]
    if stream.op in SAME:
        return text_of(stream.args[0], streams, depth)
    if not depth:
        return "…"
    parts = [text_of(a, streams, depth - 1) for a in stream.args]
    if stream.op in SIGNS and len(parts) == 2:
        return f" {SIGNS[stream.op]} ".join(f"({p})" if " " in p and "(" not in p else p for p in parts)
    return f"-{parts[0]}" if stream.op == "neg" else f"{stream.op}({', '.join(parts)})"
