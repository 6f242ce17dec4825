"""What a program expects from outside that is no data: the rates of a rule."""

from __future__ import annotations

from collections.abc import Iterable

from nldsl.compiler.doctor.writers import gates

from nldsl.graph import LevelGraph, Objective, Stream


def rates_from_outside(graph: LevelGraph) -> list[str]:
    """The inputs that do nothing but set the pace of a memory: they reach a rate (`gates`), and no key, value,
    condition, read or result by way of streams."""
    rates = _above(graph, (gate.stream for gate in gates(graph)))
    others = _above(graph, _others(graph))
    return [port.id for port in graph.tick.inputs if port.id in rates - others]


def _others(graph: LevelGraph) -> Iterable[str]:
    """The streams that are used for something else than a rate."""
    for record in graph.tick.records:
        if isinstance(record, Objective):
            named = (*record.pair, record.when, *(p.stream for body in record.bodies for p in body.inputs))
            yield from (name for name in named if isinstance(name, str))
        elif isinstance(record, Stream) and record.op == "recall":
            yield from (arg for arg in record.args if isinstance(arg, str))
    yield from (out.stream for out in graph.outs)
    yield graph.loss


def _above(graph: LevelGraph, names: Iterable[str]) -> set[str]:
    """These streams and inputs, and those that they are made of."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            stream = graph.streams.get(name)
            open_ += [a for a in (stream.args if stream else ()) if isinstance(a, str)]
    return found
