"""Clocks (rules 3, 9, 10 and 12): slower reads faster through an aggregate only, holds and loss periods fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nldsl.clocks import NEVER, fastest, order
from nldsl.diagnostics import Diagnostic
from nldsl.graph import Body, LevelGraph, Objective, Period, Port, Rule, Stream
from nldsl.spans import Span

WINDOWS = ("window_mean", "window_sum", "window_last")
SHORT = 128  # ticks; under this a segment is mostly overhead


def check(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    seen: set[object] = set()
    for body, unit in ((graph.tick, "token"), *((b, "update") for b in graph.bodies.values())):
        for finding in (*_aggregates(body, graph.bodies, unit), *_holds(body)):
            if (finding.code, finding.span, finding.message) not in seen:
                seen.add((finding.code, finding.span, finding.message))
                yield finding
    for finding in _segments(graph):
        if (finding.code, finding.span) not in seen:
            seen.add((finding.code, finding.span))
            yield finding


def multiples(count: int, of: int) -> tuple[int, ...]:
    """The nearest multiples of a number, below and above."""
    below = count // of * of
    return tuple(n for n in (below, below + of) if n)


def _times(counts: Iterable[int], unit: str) -> tuple[str, ...]:
    return tuple(f"`{n} {unit}s`" for n in counts)


# Slower reads faster (rules 3 and 9)


def _aggregates(body: Body, bodies: Mapping[str, Body], unit: str) -> Iterator[Diagnostic]:
    values: dict[str, Stream | Port] = {p.id: p for p in body.inputs}
    values |= {s.id: s for s in body.records if isinstance(s, Stream)}
    for record in body.records:
        if isinstance(record, Stream) and record.op == "assign" and record.every > 1:
            yield from _of_write(record, values, unit)
        elif isinstance(record, Objective) and (record.every.count > 1 or record.every.unit == "step"):
            for rule in (record.optimizer, record.retention):
                if rule is not None and rule.name:
                    yield from _of_rule(record, rule, values, bodies, unit)


def _of_rule(
    learn: Objective, rule: Rule, values: Mapping[str, Stream | Port], bodies: Mapping[str, Body], unit: str
) -> Iterator[Diagnostic]:
    captured = [p.stream for _, _, b in rule.bodies for p in bodies[b].inputs if p.stream]
    for arg in dict.fromkeys((*rule.args, *captured)):
        value, clock = values[arg], _clock(values[arg], unit)
        name, shown = _name(value, values), _shown(value, values)
        if learn.every.unit == "step":
            yield Diagnostic("NL203", f"`{rule.name}` acts once per training step and takes numbers and expressions of "
                             f"`tick` only, and {shown} is a stream", rule.span, second=_second(value, clock),
                             hint="a value that is learned can weigh the terms of `loss` instead")  # fmt: skip
        elif order(clock) < order(learn.every):
            offers = [f"`{w}({name})`" for w in WINDOWS]
            hint = f"{offers[0]} takes one value per window"
            if rule is learn.optimizer:
                offers.append(f"`weighted {name}`")
                hint += f"; {offers[-1]} multiplies each tick's own gradient"
            yield Diagnostic("NL401", f"`{rule.name}` acts {learn.every}, and {shown} changes {clock}: which value is "
                             "meant?", rule.span, second=_second(value, clock), alternatives=tuple(offers),
                             hint=hint)  # fmt: skip


def _of_write(write: Stream, values: Mapping[str, Stream | Port], unit: str) -> Iterator[Diagnostic]:
    """`M <- e every N`: only the memory's own running value may be newer than N ticks."""
    every = Period(write.every, unit)
    arg = write.args[0]
    if not isinstance(arg, str) or order(_clock(values[arg], unit)) >= order(every):
        return
    clocks: dict[str, Period] = {}
    todo = [arg]
    while todo:
        node = values[todo[-1]]
        if isinstance(node, Stream) and node.op == "weight" and node.mode == "running" and node.memory == write.memory:
            clocks[todo.pop()] = NEVER
        elif waiting := [s for s in _sources(node) if s not in clocks]:
            todo += waiting
        else:
            clocks[todo.pop()] = fastest((clocks[s] for s in _sources(node)), _clock(node, unit))
    if order(clocks[arg]) >= order(every):
        return
    culprit = arg
    while (sources := _sources(values[culprit])) and not getattr(values[culprit], "name", ""):
        culprit = min(sources, key=lambda s: order(clocks[s]))
    name, shown = _name(values[culprit], values), _shown(values[culprit], values)
    yield Diagnostic("NL401", f"`{_short(write.memory)}` is written {every}, and {shown} changes {clocks[arg]}: which "
                     "value is meant?", write.span, second=_second(values[culprit], clocks[arg]),
                     alternatives=tuple(f"`{w}({name})`" for w in WINDOWS),
                     hint=f"`window_mean({name})` takes one value per window")  # fmt: skip


def _sources(value: Stream | Port) -> list[str]:
    """What a value's clock is the fastest of; nothing where it has one of its own."""
    if not isinstance(value, Stream) or value.op in ("recall", "causal_conv") or value.op in WINDOWS:
        return []
    return [a for a in value.args if isinstance(a, str)]


def _clock(value: Stream | Port, unit: str) -> Period:
    return value.clock if isinstance(value, Stream) else Period(1, unit)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _name(value: Stream | Port, values: Mapping[str, Stream | Port]) -> str:
    """What the text calls a value; `…` for one without a name."""
    while isinstance(value, Stream) and not value.name and value.op in ("reshape", "per_head"):
        value = values[str(value.args[0])]
    if isinstance(value, Port):
        return value.id
    return _short(value.name) if value.name else _short(value.memory) if value.op == "weight" else value.op if (
        value.op == "tick") else "…"  # fmt: skip


def _shown(value: Stream | Port, values: Mapping[str, Stream | Port]) -> str:
    name = _name(value, values)
    return "its argument" if name == "…" else f"`{name}`"


def _second(value: Stream | Port, clock: Period) -> tuple[Span, str] | None:
    return (value.span, f"a new value {clock}") if isinstance(value, Stream) else None


# Holds (rule 10)


def _holds(body: Body) -> Iterator[Diagnostic]:
    holding: dict[str, Objective] = {}
    for learn in body.records:
        if not isinstance(learn, Objective) or not learn.hold or learn.every.unit == "step":
            continue
        names = ", ".join(_short(m) for m in learn.memories)
        count, unit = learn.every.count, learn.every.unit
        if count and learn.hold_length % count:
            yield Diagnostic("NL403", f"`{names}` is held for {learn.hold_length} {unit}s and writes {learn.every}, so "
                             "a hold would end between two writes", learn.where("hold"),
                             second=(learn.where("every"), "writes"),
                             alternatives=_times(multiples(learn.hold_length, count), unit),
                             hint=f"hold for a multiple of {count}")  # fmt: skip
        for memory in learn.memories:
            other = holding.setdefault(memory, learn)
            if other.hold_length != learn.hold_length and "state" in (other.hold, learn.hold):
                yield Diagnostic("NL403", f"`{_short(memory)}` is held for {other.hold_length} and for "
                                 f"{learn.hold_length} {unit}s, and a read can see one held state only",
                                 learn.where("hold"), second=(other.where("hold"), "the other hold"),
                                 alternatives=_times((other.hold_length, learn.hold_length), unit),
                                 hint="hold it for the same time in both learns")  # fmt: skip


# Segments (rule 12)


def _segments(graph: LevelGraph) -> Iterator[Diagnostic]:
    learns = [o for o in graph.objectives if o.kind == "loss" and o.every.unit == "token" and o.every.count]
    if not learns:
        return
    first = min(learns, key=lambda o: o.every.count)
    shortest = first.every.count

    def clause(learn: Objective) -> Span:
        return learn.where("at" if learn.level else "every")

    for learn in learns:
        name = ", ".join(_short(m) for m in learn.memories) or "*"
        second = (clause(first), f"the shortest, {shortest} tokens") if clause(learn) != clause(first) else None
        period = (f"`{name}` learns from `loss` every", learn.every.count, clause(learn))
        reach = (f"the gradient of `{name}` reaches back through", learn.through, learn.where("through"))
        for what, count, span in (period, reach):
            if count % shortest:
                yield Diagnostic("NL404", f"{what} {count} tokens, which is no multiple of the shortest such period, "
                                 f"{shortest} tokens", span, second=second,
                                 alternatives=_times(multiples(count, shortest), "token"),
                                 hint=f"the shortest makes the segments: take a multiple of {shortest}")  # fmt: skip
    if shortest < SHORT:
        yield Diagnostic("NL904", f"segments of {shortest} tokens: one forward and one backward pass each, and "
                         f"gradients of `loss` reach back {shortest} tokens", clause(first), severity="note",
                         hint=f"{SHORT} tokens or more run faster and reach further")  # fmt: skip
