"""The syntax tree as indented text: one node a line, with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from typing import Any

from nldsl.syntax.tree import Module, Node

WIDTH = 100
STEP = "  "


def show_tree(module: Module) -> str:
    """Every node of a module: what fits stands in one line, `Binary(op="+" left=Name(x) right=Number(1))`, what does
    not has its parts below it. `@line:column` is where a node begins."""
    return "\n".join(_lines(module, "", 0))


def _lines(value: Any, label: str, depth: int) -> Iterator[str]:
    text = _inline(value, WIDTH - len(STEP) * depth - len(label))
    place = f"  @{value.span.line}:{value.span.column}" if isinstance(value, Node) and value.span.line else ""
    if text is not None and not (isinstance(value, Node) and _big(value)):
        yield STEP * depth + label + text + place
    elif isinstance(value, tuple):
        yield STEP * depth + label.rstrip()
        for item in value:
            yield from _lines(item, "", depth + 1)
    elif isinstance(value, str):
        yield STEP * depth + label.rstrip()
        yield from (STEP * (depth + 1) + line for line in value.split("\n"))
    else:
        yield STEP * depth + label + type(value).__name__ + place
        for name, part in _parts(value):
            yield from _lines(part, f"{name}: ", depth + 1)


def _big(node: Node) -> bool:
    """Whether a node holds statements or definitions: those have lines of their own."""
    return any(isinstance(part, tuple) and part and name in ("body", "definitions") for name, part in _parts(node))


def _parts(node: Node) -> Iterator[tuple[str, Any]]:
    """The fields that say something."""
    for field in fields(node):
        value = getattr(node, field.name)
        if field.name not in ("span", "clauses") and value is not None and value != () and value is not False:
            yield field.name, value


def _inline(value: Any, room: int) -> str | None:
    """The value in one line of at most `room` columns, or None."""
    pieces: list[str] = []
    for piece in _pieces(value):
        room -= len(piece)
        if room < 0 or "\n" in piece:
            return None
        pieces.append(piece)
    return "".join(pieces)


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Node):
        parts = list(_parts(value))
        alone = len(fields(value)) == 2  # the span and one more
        yield type(value).__name__ + "("
        for i, (name, part) in enumerate(parts):
            yield (" " if i else "") + ("" if alone else f"{name}=")
            yield from _pieces(part)
        yield ")"
    elif isinstance(value, tuple):
        yield "["
        for i, item in enumerate(value):
            yield ", " if i else ""
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, int | Fraction):
        yield str(value)
    else:
        yield value if value.replace(".", "").isidentifier() or "\n" in value else f'"{value}"'
