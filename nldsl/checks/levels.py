"""Levels (rule 18): no two memories are each inner to the other, and every level that is named is used."""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.diagnostics import Diagnostic, Findings
from nldsl.graph import Body, LevelGraph, Objective, Stream
from nldsl.levels import feeding, layers
from nldsl.modules import ModuleScope
from nldsl.spans import Span
from nldsl.syntax import tree


def check(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    """Only a memory that is written at two places of a tick can be both before and after another."""
    if not any(map(_written_twice, (graph.tick, *graph.bodies.values()))):
        return
    found = feeding(graph.tick, graph.bodies, graph.loss)
    spans: dict[str, Span] = {}
    for learn in graph.objectives:
        for memory in learn.memories:
            spans[memory] = learn.span
    for stream in graph.records(Stream):
        if stream.op == "assign":
            spans.setdefault(stream.memory, stream.span)
    for cycle in layers(found)[1]:
        places = [spans[s] for s in (found.members[m].learn or m for m in cycle) if s in spans]
        shown = [f"`{m}`" for m in cycle]
        period = found.members[cycle[0]].period
        yield Diagnostic(
            "NL602",
            f"{' and '.join(shown)} are each inner to the other: both write {period}, and each uses what the other has "
            "just written",
            places[-1] if places else graph.tick.records[0].span,
            label="writes here",
            second=(places[0], f"{shown[0]} writes here") if len(set(places)) > 1 else None,
            values=(("each feeds the next", " -> ".join([*cycle, cycle[0]])),),
            hint="teach them in one `learn`, or read one of them above the other's write",
        )


def _written_twice(body: Body) -> bool:
    seen: dict[str, Span] = {}
    for record in body.records:
        written: tuple[str, ...] = ()
        if isinstance(record, Stream):
            written = (record.memory,) if record.op == "assign" else ()
        elif isinstance(record, Objective) and record.kind != "loss" and record.every.unit != "step":
            written = record.memories
        for memory in written:
            if seen.setdefault(memory, record.span) != record.span:
                return True
    return False


def unused_names(module: ModuleScope, findings: Findings) -> None:
    """Warn of every `level NAME = …` of a text that no `at NAME` uses, there or in the modules it imports."""
    declared: list[tree.LevelDecl] = []
    used: set[str] = set()
    for statement in _statements(module):
        if isinstance(statement, tree.LevelDecl):
            declared.append(statement)
    if not declared:
        return
    reached = [module]
    for scope in reached:
        used.update(s.at.id for s in _statements(scope) if isinstance(s, tree.Learn) and s.at is not None)
        others = [*(m for m, _ in scope.imported.values()), *scope.whole.values()]
        reached += [m for m in dict.fromkeys(others) if m not in reached]
    if not used.issubset(level.name for level in declared):
        return  # a misspelt one has an error of its own
    for level in declared:
        if level.name not in used:
            hint = f"write `learn … at {level.name}`, or remove it"
            findings.add(Diagnostic("NL902", f"no learn is `at {level.name}`: a level that nothing uses", level.span,
                                    hint=hint, severity="warning"))  # fmt: skip


def _statements(module: ModuleScope) -> Iterator[tree.Statement]:
    stack: list[tree.Statement] = [s for d in module.definitions.values() for s in d.body]
    while stack:
        statement = stack.pop(0)
        yield statement
        if isinstance(statement, tree.Repeat | tree.For):
            stack[:0] = statement.body
        elif isinstance(statement, tree.If):
            stack[:0] = (*statement.then, *statement.otherwise)
