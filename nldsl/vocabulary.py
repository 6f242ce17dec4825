"""How many different tokens a program knows: what its int inputs are looked up in, and what predicts them."""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.graph import Body, LevelGraph, Objective, Stream

SAME = ("next", "data", "stop")


def vocabularies(graph: LevelGraph) -> dict[str, int]:
    """For each int input that is an index: the least number of entries that it is an index into."""
    found: dict[str, int] = {}
    for port, size in _uses(graph.tick, {p.id: p.id for p in graph.tick.inputs if p.dtype == "int"}):
        found[port] = min(size, found.get(port, size))
    return found


def _uses(body: Body, inputs: dict[str, str]) -> Iterator[tuple[str, int]]:
    """(input of the program, number of entries) for every use as an index. inputs: who they are in this body."""
    inputs = dict(inputs)
    shapes = {p.id: p.shape for p in body.inputs}
    for record in body.records:
        if isinstance(record, Objective):
            for inner in record.bodies:
                yield from _uses(inner, {p.id: inputs[p.stream] for p in inner.inputs if p.stream in inputs})
        elif isinstance(record, Stream):
            shapes[record.id] = record.shape
            if record.op in SAME and record.args[0] in inputs:
                inputs[record.id] = inputs[str(record.args[0])]
            elif record.op == "one_hot" and record.args[0] in inputs:
                yield inputs[str(record.args[0])], int(record.attr("n"))
            elif record.op in ("take", "cross_entropy") and record.args[1] in inputs:
                table = shapes[str(record.args[0])]
                yield inputs[str(record.args[1])], int(table[0 if record.op == "take" else -1])
