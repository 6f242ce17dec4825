"""Warnings: memories that never learn, learns that nothing reads, and what is due too late to happen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.diagnostics import Diagnostic
from nldsl.graph import Body, LevelGraph, Memory, Objective, Record, Stream
from nldsl.parameters import has_parameters
from nldsl.spans import Span


def check(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    found: dict[tuple[str, object], Diagnostic] = {}
    for body in (graph.tick, *graph.bodies.values()):
        for finding in (*_never_learns(body), *_too_late(body)):
            found.setdefault((finding.code, finding.span), finding)
    for finding in (*_unread(graph), *_longer_than(graph, length)):
        found.setdefault((finding.code, (finding.span, finding.message)), finding)
    yield from found.values()


_TEACH = "teach it, or drop `from …`: then its start is a parameter"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _writers(records: Iterable[Record]) -> dict[str, list[Objective | Stream]]:
    found: dict[str, list[Objective | Stream]] = {}
    for record in records:
        if isinstance(record, Objective):
            for memory in record.memories:
                found.setdefault(memory, []).append(record)
        elif isinstance(record, Stream) and record.op == "assign":
            found.setdefault(record.memory, []).append(record)
    return found


def _never_learns(body: Body) -> Iterator[Diagnostic]:
    written = _writers(body.records)
    for memory in body.records:
        if not isinstance(memory, Memory) or (has_parameters(memory) and memory.form != "attention"):
            continue
        writers, name = written.get(memory.id, []), _short(memory.id)
        steps = [w for w in writers if isinstance(w, Objective) and w.every.unit == "step"]
        if not writers:
            what, hint = {
                "state": (f"the state `{name}` is never written", f"write it: `{name} <- …`"),
                "attention": (f"`{name}` never gets a pair", f"teach it: `learn {name} : key -> value every token`"),
            }.get(memory.form, (f"`{name}` never learns: it has a fixed start and no `learn`", _TEACH))
            yield Diagnostic("NL901", what, memory.span, hint=hint, severity="warning")
        elif len(steps) == len(writers) and memory.form == "weights":
            yield Diagnostic(
                "NL901",
                f"`{name}` never learns: a learn of the step clock moves parameters, and its start is none",
                memory.span,
                second=(steps[0].span, "this has nothing to learn"),
                hint="drop `from …`; a `param` of its net may be `= zeros`",
            )


def unread(graph: LevelGraph) -> set[str]:
    """The memories taught on a token clock whose value is never read, but by their own learns and writes."""
    taught = {m for o in graph.objectives if o.every.unit != "step" for m in o.memories}
    taught -= {s.memory for s in graph.records(Stream) if s.op == "recall"}
    if not taught:
        return taught
    own: dict[str, set[str]] = {}  # the streams by which a memory reads itself in order to write itself
    for stream in reversed([*graph.records(Stream)]):
        if stream.op == "assign" or stream.id in own:
            target = own.get(stream.id, set()) | ({stream.memory} if stream.op == "assign" else set())
            for arg in stream.args:
                if isinstance(arg, str):
                    own[arg] = own[arg] & target if arg in own else set(target)
    for stream in graph.records(Stream):
        if stream.op == "weight" and not (stream.mode == "running" and own.get(stream.id) == {stream.memory}):
            taught.discard(stream.memory)
    for learn in graph.objectives:
        for i, body in enumerate(learn.bodies):
            mine = set(learn.memories if len(learn.bodies) == 1 else learn.memories[i : i + 1])
            for record in body.records:
                if isinstance(record, Stream) and record.op == "weight" and record.memory not in mine:
                    taught.discard(record.memory)
    for memory in graph.records(Memory):
        for start in memory.starts:
            taught -= {s.memory for s in start.records if isinstance(s, Stream) and s.op == "weight"}
    return taught


def _unread(graph: LevelGraph) -> Iterator[Diagnostic]:
    dead = unread(graph)
    seen: set[Span] = set()
    for learn in graph.objectives:
        step = learn.every.unit == "step"
        if step and not learn.memories and learn.id.rpartition(".")[2] == "learn *":
            yield Diagnostic("NL902", "`learn *` has nothing to learn: everything is claimed by name, or there are no "
                             "parameters", learn.span, severity="warning", hint="remove it")  # fmt: skip
        elif not step and learn.memories and dead.issuperset(learn.memories) and learn.span not in seen:
            seen.add(learn.span)
            names = " and ".join(f"`{_short(m)}`" for m in learn.memories)
            yield Diagnostic("NL902", f"nothing reads what {names} learn{'s' * (len(learn.memories) == 1)}", learn.span,
                             severity="warning", hint=f"read it, such as `{_short(learn.memories[0])}(x)`, or remove "
                             "the `learn`")  # fmt: skip


def _too_late(body: Body) -> Iterator[Diagnostic]:
    """A reset restarts the windows too, so a longer one is never full."""
    memories = {m.id: m for m in body.records if isinstance(m, Memory) and m.reset_every}
    for memory, writers in _writers(body.records).items():
        for writer in writers if memory in memories else ():
            every = memories[memory].reset_every
            if isinstance(writer, Objective) and writer.every.unit != "step" and writer.every.count > every:
                yield Diagnostic("NL903", f"`{_short(memory)}` writes {writer.every} and is restarted every {every}: "
                                 "its window is never full", _clause(writer), severity="warning",
                                 second=(memories[memory].span, "restarted here"),
                                 hint="reset later, or write earlier")  # fmt: skip


def _clause(learn: Objective) -> Span:
    return learn.where("at" if learn.level else "every")


def _longer_than(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    """Periods that a run of this length does not complete, the shortest first."""
    if length is None:
        return
    late: dict[tuple[int, Span], list[str]] = {}
    for learn in graph.objectives:
        if learn.every.unit == "token" and learn.every.count > length:
            late.setdefault((learn.every.count, _clause(learn)), []).extend(learn.memories)
    for stream in graph.records(Stream):
        if stream.op == "assign" and stream.every > length:
            late.setdefault((stream.every, stream.span), []).append(stream.memory)
    for (count, span), memories in sorted(late.items(), key=lambda item: item[0]):
        names = list(dict.fromkeys(memories))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Diagnostic("NL903", f"`{names[0]}`{more} would write every {count} tokens, and there are {length}", span,
                         severity="warning", hint="give more tokens, or shorten the period")  # fmt: skip
