"""Tree -> text. `parse(show(module))` gives the same tree.

Only bodies nest in the printer's own calls, so no tree that `parse` makes is too deep for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nldsl.syntax import tree as t
from nldsl.syntax.print_expression import STEP, Piece, Row, expression, separated, wrapped

WIDTH = 104  # columns; the widest line in the language's own examples

CLAUSES = (
    "minimizing", "retaining", "by", "every", "at", "hold", "over", "weighted", "times", "when", "through", "detached",
)  # fmt: skip


def show(module: t.Module) -> str:
    """The text of a module, lines of about 100 columns."""
    blocks: list[list[str]] = [_doc(module.doc)] if module.doc is not None else []
    blocks += [[_import(i) for i in module.imports]] if module.imports else []
    group: list[str] = []  # short definitions, one a line, stand together
    for d in module.definitions:
        lines = _definition(d)
        if d.short and d.doc is None and len(lines) == 1:
            group += lines
            continue
        blocks += [group, lines] if group else [lines]
        group = []
    blocks += [group] if group else []
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n" if blocks else ""


def _doc(doc: str) -> list[str]:
    return f'"""{doc}{" " if doc.endswith(chr(34)) else ""}"""'.split("\n")


def _import(node: t.Import) -> str:
    if not node.names:
        return f"import {'.'.join(node.module)}" + (f" as {node.alias}" if node.alias else "")
    names = (f"{n.name} as {n.alias}" if n.alias else n.name for n in node.names)
    return f"from {'.'.join(node.module)} import {', '.join(names)}"


def _definition(d: t.Definition) -> list[str]:
    row = [Piece(f"{d.kind} {d.name.id}")]
    if d.parameters:
        parameters = [([Piece(p.name)], p.default) for p in d.parameters]
        row += [Piece("("), *_commas([_joined(name, " = ", value, 2) for name, value in parameters], 1), Piece(")")]
    if d.ports:
        ports = [_joined([Piece(p.name)], ": ", p.shape, 2) for p in d.ports]
        row += [Piece(" "), Piece("over ", 0, True), *_commas(ports, 1)]
    if d.results:
        row += [Piece(" "), Piece("-> ", 0, True), *_commas([expression(r, depth=2) for r in d.results], 1)]
    lines = _doc(d.doc) if d.doc is not None else []
    if d.short and len(d.body) == 1 and isinstance(d.body[0], t.Return):
        return lines + wrapped([*row, Piece(" = "), *_values(d.body[0].values)], WIDTH)
    return lines + _braced(row, d.body, WIDTH)


# Statements


def _braced(row: Row, body: Sequence[t.Statement], width: int) -> list[str]:
    head = wrapped([*row, Piece(" {")], width)
    if not body:
        return [*head[:-1], head[-1] + "}"]
    inside = [(s, _statement(s, width - len(STEP))) for s in body]
    lines: list[str] = []
    for i, (statement, text) in enumerate(inside):
        spread = isinstance(statement, t.Learn) and len(text) > 1
        after_spread = i > 0 and isinstance(inside[i - 1][0], t.Learn) and len(inside[i - 1][1]) > 1
        lines += [""] if i and (spread or after_spread) else []
        lines += [STEP + line if line else "" for line in text]
    return [*head, *lines, "}"]


def _statement(s: t.Statement, width: int) -> list[str]:
    if isinstance(s, t.Learn):
        return _learn(s, width)
    if isinstance(s, t.If):
        return _if(s, width)
    if isinstance(s, t.Repeat):
        name = [Piece(f" as {s.name}")] if s.name else []
        return _braced([Piece("repeat "), *expression(s.count), *name], s.body, width)
    if isinstance(s, t.For):
        return _braced([Piece(f"for {s.variable.id} in "), *expression(s.values)], s.body, width)
    return wrapped(SIMPLE[type(s)](s), width)


def _if(s: t.If, width: int) -> list[str]:
    lines: list[str] = []
    word, branch = "if ", s
    while True:
        row = [Piece((lines.pop() + " " if lines else "") + word), *expression(branch.condition)]
        lines += _braced(row, branch.then, width)
        rest = branch.otherwise
        if len(rest) == 1 and isinstance(rest[0], t.If):
            word, branch = "else if ", rest[0]
            continue
        if rest:
            lines += _braced([Piece(lines.pop() + " else")], rest, width)
        return lines


def _assign(s: t.Assign) -> Row:
    return [Piece(", ".join(n.id for n in s.names) + " = "), *expression(s.value)]


def _memory(s: t.MemoryDecl) -> Row:
    start = [Piece(" "), Piece("from ", 0, True), *expression(s.start, depth=1)] if s.start else []
    row = [Piece("memory "), *_commas([_target(x) for x in s.targets], 1), Piece(" = "), *expression(s.net, depth=1)]
    return [*row, *start, *_reset(s.reset)]


def _state(s: t.StateDecl) -> Row:
    return [Piece("state "), *_joined(_target(s.target), ": ", s.shape, 1), Piece(" = "), *expression(s.start, depth=1),
            *_reset(s.reset)]  # fmt: skip


def _write(s: t.Write) -> Row:
    return [Piece(f"{s.target.id} <- "), *expression(s.value, depth=1), *_every(s.every)]


SIMPLE: dict[type, Callable[[Any], Row]] = {
    t.Assign: _assign,
    t.MemoryDecl: _memory,
    t.StateDecl: _state,
    t.Write: _write,
    t.ParamDecl: lambda s: [Piece(f"param {s.name}: "), *expression(s.shape), Piece(" = "), *expression(s.init)],
    t.LevelDecl: lambda s: [Piece(f"level {s.name} = every "), *_quantity(s.every)],
    t.Return: lambda s: [Piece("return "), *_values(s.values)],
}


def _target(target: t.Target) -> Row:
    return [Piece(target.name), *([Piece("["), *expression(target.heads, depth=2), Piece("]")] if target.heads else [])]


def _reset(reset: t.Reset | None) -> Row:
    if reset is None:
        return []
    if reset.every is not None:
        return [Piece(" "), Piece("reset every ", 0, True), *_quantity(reset.every)]
    return [Piece(" "), Piece("reset when ", 0, True), *(expression(reset.when, depth=1) if reset.when else [])]


def _every(every: t.Quantity | None) -> Row:
    return [Piece(" "), Piece("every ", 0, True), *_quantity(every)] if every else []


def _quantity(q: t.Quantity) -> Row:
    if isinstance(q.count, t.Number) and type(q.count.value) is int and q.count.value == 1:
        return [Piece(q.unit)]
    return [*expression(q.count, depth=1), Piece(f" {q.unit}s")]


# Learning


def _learn(s: t.Learn, width: int) -> list[str]:
    """On one line where it fits, otherwise a line for each clause."""
    head = [Piece("learn " + (", ".join(n.id for n in s.targets) or "*"))]
    if s.key is not None and s.value is not None:
        head += [Piece(" : "), *expression(s.key), Piece(" -> "), *expression(s.value)]
    written = [c.id for c in s.clauses]
    words = written + [w for w in CLAUSES if w not in written and getattr(s, w)]
    clauses = [clause(s, w) for w in words if getattr(s, w)]
    line = "".join(p.text for p in head + [p for c in clauses for p in [Piece(" "), *c]])
    if len(line) <= width:
        return [line]
    return wrapped(head, width) + [STEP + line for c in clauses for line in wrapped(c, width - len(STEP))]


def clause(s: t.Learn, word: str) -> Row:
    """One clause of a learn, its word first."""
    value = getattr(s, word)
    if isinstance(value, t.Quantity):
        return [Piece(f"{word} "), *_quantity(value)]
    if isinstance(value, t.Hold):
        return [Piece(f"hold {value.what} for "), *_quantity(value.length)]
    if isinstance(value, t.Over):
        weight = [Piece(" weighted "), *expression(value.weight)] if value.weight else []
        return [Piece("over last "), *_quantity(value.length), *weight]
    return [Piece(word)] if word == "detached" else [Piece(f"{word} "), *expression(value)]


# Rows


def _commas(rows: Iterable[Row], depth: int) -> Row:
    return [p for p in separated([list(row) for row in rows], depth) if isinstance(p, Piece)]


def _joined(row: Row, between: str, value: t.Expr | None, depth: int) -> Row:
    return row if value is None else [*row, Piece(between), *expression(value, depth=depth)]


def _values(values: Sequence[t.Expr]) -> Row:
    return expression(values[0]) if len(values) == 1 else _commas([expression(v, depth=1) for v in values], 0)
