"""Expression -> text, and rows of text -> lines.

An expression becomes a row of `Piece`s; a line that is too long is broken before the pieces that stand least deep in
it. Nothing here calls itself: no expression is too deep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nldsl.syntax import tree as t

STEP = "  "
CONTINUED = STEP * 2

# How tightly an expression holds together; `nl.lark` has the same rows.
BINDING = {
    "|>": 0, "or": 1, "and": 2, "not": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "@": 6, "minus": 7, "^": 8,
}  # fmt: skip
COMPARISON, QUOTIENT, NEGATED, POWER, POSTFIX, ATOM = 4, 6, 7, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that stays on one line. It may begin a line if `breaks`; the deeper it stands, the later it does."""

    text: str
    depth: int = 0
    breaks: bool = False


@dataclass(frozen=True, slots=True)
class Todo:
    """An expression still to be printed, in parentheses unless it binds at least as tightly as `binding`."""

    node: t.Expr
    binding: int
    depth: int


Row = list[Piece]
Parts = list[Piece | Todo]


def expression(node: t.Expr, binding: int = 0, depth: int = 0) -> Row:
    row: Row = []
    todo: Parts = [Todo(node, binding, depth)]
    while todo:
        item = todo.pop()
        if isinstance(item, Piece):
            row.append(item)
        else:
            todo += reversed(_parts(item))
    return row


def text_of(node: t.Expr) -> str:
    """An expression on one line."""
    return "".join(piece.text for piece in expression(node))


def _parts(item: Todo) -> Parts:
    """One step into an expression."""
    tightness = _binding(item.node)
    if tightness < item.binding:
        return [Piece("("), Todo(item.node, 0, item.depth + 1), Piece(")")]
    return WRITE[type(item.node)](item.node, tightness, item.depth)


def _binding(node: t.Expr) -> int:
    if isinstance(node, t.Binary):
        return BINDING[node.op]
    if isinstance(node, t.Unary):
        return BINDING["not"] if node.op == "not" else NEGATED
    if isinstance(node, t.Number):
        return NEGATED if node.value < 0 else QUOTIENT if "/" in number(node.value) else ATOM
    return BINDING["|>"] if isinstance(node, t.Pipe) else POSTFIX


def _number(node: t.Number, tightness: int, depth: int) -> Parts:
    return [Piece(number(node.value))]


def _name(node: t.Name, tightness: int, depth: int) -> Parts:
    return [Piece(node.id)]


def _list(node: t.List, tightness: int, depth: int) -> Parts:
    return [Piece("["), *separated([[Todo(i, 0, depth + 2)] for i in node.items], depth + 1), Piece("]")]


def _unary(node: t.Unary, tightness: int, depth: int) -> Parts:
    return [Piece("not " if node.op == "not" else "-"), Todo(node.operand, tightness, depth + 1)]


def _binary(node: t.Binary, tightness: int, depth: int) -> Parts:
    left, right = tightness, tightness + 1
    if tightness == COMPARISON:
        left = COMPARISON + 1
    if tightness == POWER:
        left, right = POSTFIX, NEGATED
    if tightness == POWER and isinstance(node.right, t.Number) and _binding(node.right) == ATOM:
        return [Todo(node.left, left, depth + 1), Piece("^"), Todo(node.right, right, depth + 1)]
    same = _binding(node.left) == tightness  # a chain breaks before each of its operators alike
    return [
        Todo(node.left, left, depth if same else depth + 1),
        Piece(" "),
        Piece(f"{node.op} ", depth, True),
        Todo(node.right, right, depth + 1),
    ]


def _pipe(node: t.Pipe, tightness: int, depth: int) -> Parts:
    value = Todo(node.value, 0, depth if isinstance(node.value, t.Pipe) else depth + 1)
    return [value, Piece(" "), Piece("|> ", depth, True), Todo(node.function, POSTFIX, depth + 1)]


def _call(node: t.Call, tightness: int, depth: int) -> Parts:
    arguments: list[Parts] = [
        [*([Piece(f"{a.name} = ")] if a.name else []), Todo(a.value, 0, depth + 2)] for a in node.arguments
    ]
    return [Todo(node.function, POSTFIX, depth), Piece("("), *separated(arguments, depth + 1), Piece(")")]


def _index(node: t.Index, tightness: int, depth: int) -> Parts:
    return [Todo(node.value, POSTFIX, depth), Piece("["), Todo(node.index, 0, depth + 1), Piece("]")]


WRITE: dict[type, Callable[[Any, int, int], Parts]] = {
    t.Number: _number, t.Name: _name, t.List: _list, t.Unary: _unary, t.Binary: _binary, t.Pipe: _pipe,
    t.Call: _call, t.Index: _index,
}  # fmt: skip


def number(value: int | Fraction | bool) -> str:
    """A number as short as it can be written exactly: `0.9`, `1e-3`, `1e100`, and `1 / 3` where no decimals do."""
    if isinstance(value, bool):
        return "true" if value else "false"
    rest, tens = abs(value.denominator), 0
    while rest % 10 == 0:
        rest, tens = rest // 10, tens + 1
    while rest % 2 == 0 or rest % 5 == 0:
        rest, tens = rest // 2 if rest % 2 == 0 else rest // 5, tens + 1
    if rest != 1:
        return f"{value.numerator} / {value.denominator}"
    sign, digits = "-" if value < 0 else "", str(abs(value.numerator) * 10**tens // value.denominator)
    padded = digits.rjust(tens + 1, "0")
    plain = padded if tens == 0 else f"{padded[:-tens]}.{padded[-tens:]}"
    if tens == 0 and len(plain) <= 15:
        return sign + plain
    head = digits.rstrip("0")
    power = len(digits) - 1 - tens
    short = f"{head[0]}{'.' if len(head) > 1 else ''}{head[1:]}e{power}"
    return sign + (short if len(short) < len(plain) else plain)


def separated(items: Iterable[Parts], depth: int) -> Parts:
    """The items with commas between them; each but the first may begin a line."""
    parts: Parts = []
    for i, item in enumerate(items):
        parts += [*([Piece(","), Piece(" "), Piece("", depth, True)] if i else []), *item]
    return parts


# Lines


def wrapped(row: Row, width: int) -> list[str]:
    """The row as lines of at most `width` columns where it has places to break; all but the first are indented."""
    lines: list[str] = []
    begin = 0
    while begin < len(row):
        room = width - len(CONTINUED) if lines else width
        end, at, best = begin, 0, 0
        while end < len(row) and (at <= room or not best):
            if row[end].breaks and end > begin and (not best or row[end].depth <= row[best].depth):
                best = end
            at += len(row[end].text)
            end += 1
        end = best if at > room and best else end
        lines.append((CONTINUED if lines else "") + "".join(p.text for p in row[begin:end]).rstrip())
        begin = end
    return lines
