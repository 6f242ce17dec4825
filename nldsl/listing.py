"""What the standard library holds, read off its files: a row for each block, with what its memories choose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nldsl.as_model import whole
from nldsl.diagnostics import Findings
from nldsl.graph import LevelGraph
from nldsl.modules import library
from nldsl.primitives import PRIMITIVES, Primitive
from nldsl.program import function_of
from nldsl.syntax import tree
from nldsl.syntax.parse import parse, read
from nldsl.syntax.print import clause
from nldsl.syntax.print_expression import text_of
from nldsl.table import aligned, level_table

HEADS = ("program", "memory", "objective", "retention", "optimizer", "frequency", "levels", "oracle", "largest error")
RIGHT = ("levels", "largest error")
CHECKED = "checked.json"
# For what has no default: the levels of a program do not depend on its sizes.
SIZES = {"dim": 16, "d": 8, "hidden": 16}


@dataclass(frozen=True)
class Entry:
    """One block or model of the library. Of each of the others: one entry per learn that stands in it; `uses` are the
    blocks of the library that it applies. oracle: the test that compares it with its equations, error: the largest
    difference found there, relative to norms beyond one; both empty where it has no memory of its own."""

    program: str
    title: str
    memory: tuple[str, ...]
    objective: tuple[str, ...]
    retention: tuple[str, ...]
    optimizer: tuple[str, ...]
    frequency: tuple[str, ...]
    uses: tuple[str, ...]
    levels: int
    oracle: str = ""
    error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def listed() -> list[Entry]:
    """Every block and model of the library, file by file, in the order of the texts."""
    known = checked()
    modules = {p.stem: _parsed(p) for p in sorted(library().glob("*.nl")) if p.stem != "prelude"}
    blocks = {d.name.id for module in modules.values() for d in module.definitions if d.kind == "block"}
    return [
        _entry(f"std.{stem}:{d.name.id}", d, blocks, known)
        for stem, module in modules.items()
        for d in module.definitions
        if d.kind in ("block", "model")
    ]


def primitives() -> list[dict[str, str]]:
    """The one table of primitives, and `attention`, the memory that keeps pairs: name, arguments, keeps, is."""
    rows = [(p.name, (*p.args, *p.attrs), _keeps(p), p.doc) for p in PRIMITIVES.values()]
    rows.append(("attention", ("window", "persistent"), "state", "a memory of the pairs themselves"))
    return [{"name": n, "arguments": ", ".join(a), "keeps": keeps, "is": doc} for n, a, keeps, doc in rows]


def _keeps(primitive: Primitive) -> str:
    if primitive.name.startswith("window_"):
        return "its open window"
    return "state" if primitive.state else ""


def checked() -> dict[str, dict[str, Any]]:
    """What the last whole comparison with the oracles found, by program: `oracle`, `error`."""
    path = library() / CHECKED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _parsed(path: Path) -> tree.Module:
    text, problems = read(path)
    assert not problems, problems
    return parse(text, str(path))[0]


def _entry(program: str, definition: tree.Definition, blocks: set[str], known: dict[str, Any]) -> Entry:
    statements = list(_statements(definition.body))
    memories = [s for s in statements if isinstance(s, tree.MemoryDecl)]
    learns = [s for s in statements if isinstance(s, tree.Learn) and s.targets]
    writes = [s for s in statements if isinstance(s, tree.Write)]
    names = {n.id for s in statements for n in _names(s)}
    found = known.get(program, {})
    return Entry(
        program=program,
        title=(definition.doc or "").strip().partition("\n")[0],
        memory=tuple(f"{', '.join(t.name for t in m.targets)} = {text_of(m.net)}" for m in memories),
        objective=tuple(_objective(learn) for learn in learns),
        retention=tuple(text_of(learn.retaining) if learn.retaining else "" for learn in learns),
        optimizer=tuple(text_of(learn.by) if learn.by else "" for learn in learns),
        frequency=(*(_frequency(learn) for learn in learns), *(f"{w.target.id} <- …" for w in writes)),
        uses=tuple(sorted(names & blocks - {definition.name.id})),
        levels=len(level_table(graph_of(program)[0])),
        oracle=found.get("oracle", ""),
        error=found.get("error"),
    )


def graph_of(program: str) -> tuple[LevelGraph, dict[str, int]]:
    """A program's graph, at the sizes that are given back for what has no default; of a block that learns from the
    loss, in a model of one layer. Raises ProgramError if it is wrong."""
    function = function_of(program, Findings())
    parameters = function.definition.parameters if function else ()
    sizes = {p.name: SIZES[p.name] for p in parameters if p.default is None and p.name in SIZES}
    result = whole(program, sizes)
    result.findings.raise_errors()
    assert result.graph is not None
    return result.graph, sizes


def _statements(body: Iterable[tree.Statement]) -> Iterator[tree.Statement]:
    """All statements of a body, those inside others too."""
    for statement in body:
        yield statement
        if isinstance(statement, tree.Repeat | tree.For):
            yield from _statements(statement.body)
        elif isinstance(statement, tree.If):
            yield from _statements((*statement.then, *statement.otherwise))


def _names(node: Any) -> Iterator[tree.Name]:
    """All names in a statement's expressions."""
    if isinstance(node, tree.Name):
        yield node
    elif isinstance(node, tree.Node):
        for value in vars(node).values():
            yield from _names(value)
    elif isinstance(node, tuple):
        for item in node:
            yield from _names(item)


def _objective(learn: tree.Learn) -> str:
    return text_of(learn.minimizing) if learn.minimizing else ""


def _frequency(learn: tree.Learn) -> str:
    words = ("every", "at", "hold", "over", "times", "when", "through", "detached")
    return ", ".join("".join(p.text for p in clause(learn, w)) for w in words if getattr(learn, w))


def shown(entries: Iterable[Entry]) -> str:
    """The entries as a table in plain text."""
    cells = [[[head] for head in HEADS]]
    for e in entries:
        error = "" if e.error is None else f"{e.error:.0e}"
        memory = [*e.memory, *(f"of {name}" for name in e.uses)]
        rows = [memory, e.objective, e.retention, e.optimizer, e.frequency]
        cells.append([[e.program], *(list(r) for r in rows), [str(e.levels)], [e.oracle], [error]])
    return "\n".join(aligned(cells, RIGHT))
