"""No stream sees the future (rule 4): what `next` touches may reach `loss` and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nldsl.diagnostics import Diagnostic
from nldsl.graph import LevelGraph, Memory, Objective, Stream
from nldsl.primitives import PRIMITIVES
from nldsl.spans import Span

Use = tuple[str, str, Span]  # the stream, what uses it, where

_WAY = "let `loss` alone use it; or keep the tick before, with `state past = 0` read above `past <- x`"


def check(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    streams = graph.streams
    late = {s.id for s in streams.values() if s.lag}
    if not late:
        return
    seen: set[tuple[Span, str]] = set()
    for stream, what, span in _uses(graph):
        if stream in late and (span, what) not in seen:
            seen.add((span, what))
            origin, path = _path(stream, streams, late)
            way = (("path", " -> ".join((*path, what.strip("`")))),) if path else ()
            yield Diagnostic("NL502", f"{what} knows the next tick already", span,
                             second=(origin.span, "this looks ahead"), values=way, hint=_WAY)  # fmt: skip


def _uses(graph: LevelGraph) -> Iterator[Use]:
    """Every place where a value is used for good, the loss aside."""
    for out in graph.outs:
        made = graph.streams.get(out.stream)
        yield out.stream, f"what `{graph.program}` returns", made.span if made else out.span
    for record in graph.tick.records:
        if isinstance(record, Objective):
            yield from _of_learn(graph, record)
        elif isinstance(record, Memory):
            if record.reset_when:
                yield record.reset_when, f"the reset of `{_short(record.id)}`", record.span
        elif record.op == "assign":
            yield from ((a, f"what is written to `{_short(record.memory)}`", record.span) for a in _names(record.args))
        elif record.op == "recall":
            yield from ((a, f"the query of `{_short(record.memory)}`", record.span) for a in _names(record.args))
        elif record.op not in ("weight", "next") and PRIMITIVES[record.op].state:
            yield from ((a, f"what `{record.op}` keeps", record.span) for a in _names(record.args))


def _of_learn(graph: LevelGraph, learn: Objective) -> Iterator[Use]:
    name = ", ".join(_short(m) for m in learn.memories) or "*"
    for body in learn.bodies:
        for port in body.inputs:
            yield port.stream, f"what `{name}` learns from", learn.where("minimizing")
    for stream, what in zip(learn.pair, ("key", "value"), strict=True):
        yield stream, f"the {what} that `{name}` keeps", learn.span
    for i, weight in enumerate(_names(learn.weights)):
        yield weight, f"the factor of `{_short(learn.memories[i])}`", learn.where("weighted")
    for over in _names((learn.over_weight,)):
        yield over, f"the weights of `{name}`'s window", learn.where("over")
    if learn.when:
        yield learn.when, f"the condition under which `{name}` learns", learn.where("when")
    for rule in (learn.optimizer, learn.retention):
        if rule is not None and rule.name:
            captured = [p.stream for _, _, b in rule.bodies for p in graph.bodies[b].inputs if p.stream]
            for arg in dict.fromkeys((*rule.args, *captured)):
                yield arg, f"an argument of `{rule.name}`", rule.span


def _names(args: tuple[object, ...]) -> list[str]:
    return [a for a in args if isinstance(a, str)]


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _path(stream: str, streams: Mapping[str, Stream], late: set[str]) -> tuple[Stream, list[str]]:
    """The `next` that a stream comes from, and the names on the way."""
    path: list[str] = []
    record = streams[stream]
    while record.op != "next":
        if record.name:
            path.append(_short(record.name))
        source = next((a for a in record.args if isinstance(a, str) and a in late), None)
        if source is None:
            break
        record = streams[source]
    if record.op == "next":
        path.append(f"next({record.args[0]})")
    return record, path[::-1]
