"""Expressions: tree -> values, emitting streams on the way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nldsl.diagnostics import nearest
from nldsl.graph import Scalar, Stream
from nldsl.instantiate import apply, reading
from nldsl.instantiate.scope import Scope, visible
from nldsl.instantiate.values import (
    POISON,
    AttentionForm,
    Builtin,
    Composition,
    Function,
    Handle,
    Poison,
    Ref,
    Value,
    describe,
    is_number,
)
from nldsl.primitives import OPERATORS
from nldsl.shape_rules import Dim
from nldsl.spans import Span
from nldsl.syntax import tree


def evaluate(expr: tree.Expr, scope: Scope) -> Value:
    match expr:
        case tree.Name():
            return _name(expr, scope)
        case tree.Number():
            return expr.value
        case tree.Binary():
            left, right = operand_of(expr.left, scope), operand_of(expr.right, scope)
            return scope.builder.emit(OPERATORS[expr.op], (left, right), expr.span, Written(expr))
        case tree.Call():
            return apply.call(expr, scope)
        case tree.Pipe():
            return apply.pipe(expr, scope)
        case tree.Unary():
            op = "neg" if expr.op == "-" else "not"
            operand = operand_of(expr.operand, scope)
            return scope.builder.emit(op, (operand,), expr.span, Written(expr))
        case tree.List():
            return [evaluate(item, scope) for item in expr.items]
        case tree.Index():
            return _index(expr, scope)


def _name(expr: tree.Name, scope: Scope) -> Value:
    if expr.id in scope.env:
        return scope.env[expr.id]
    if expr.id == "tick":
        return scope.tick or scope.builder.emit("tick", (), expr.span)
    found = scope.module.lookup(expr.id)
    if isinstance(found, Function):
        return Function(found.definition, found.module, found.bound, found.complete, expr.span)
    if found is not None:
        return found
    if expr.id == "loss":
        return scope.context.report(
            "NL111",
            "`loss` is not a stream to read: a model assigns it, and `minimizing loss` learns from it",
            expr.span,
        )
    return scope.context.report(
        "NL101", f"there is no `{expr.id}` here", expr.span, hint=nearest(expr.id, visible(scope))
    )


def _index(expr: tree.Index, scope: Scope) -> Value:
    items, index = evaluate(expr.value, scope), evaluate(expr.index, scope)
    if isinstance(items, Poison) or isinstance(index, Poison):
        return POISON
    if not isinstance(items, list) or not isinstance(index, int):
        return scope.context.report(
            "NL203",
            f"`[…]` takes an item of a list by its number, not of {describe(items)}",
            expr.span,
            hint="`slice(x, from, to)` takes a piece of a stream",
        )
    if not -len(items) <= index < len(items):
        return scope.context.report("NL207", f"the list has {len(items)} items and no item {index}", expr.span)
    return items[index]  # type: ignore[no-any-return]


def operand_of(expr: tree.Expr, scope: Scope) -> Ref | Scalar | Poison:
    return as_operand(evaluate(expr, scope), scope, expr)


def as_operand(value: Value, scope: Scope, expr: tree.Expr) -> Ref | Scalar | Poison:
    """A stream or a number; a matrix memory's bare name and a state's name are their values."""
    if isinstance(value, (Ref, Poison)) or is_number(value):
        return value  # type: ignore[return-value]
    if isinstance(value, Handle):
        return reading.weight_of(value, scope, expr.span)
    hints = {
        Function: "apply it: `x |> f`, or `f(x)`",
        Composition: "apply it to a stream",
        Builtin: f"apply it: `{getattr(value, 'name', 'f')}(x)`",
        AttentionForm: "`memory A = attention()` makes a memory of it",
    }
    return scope.context.report(
        "NL107",
        f"a stream or a number is needed here, not {describe(value)}",
        expr.span,
        hint=hints.get(type(value), ""),
    )


def number_of(expr: tree.Expr, scope: Scope, what: str) -> Scalar | Poison:
    """A number known now, or an error that says what it was for."""
    value = evaluate(expr, scope)
    if isinstance(value, Poison):
        return value
    if isinstance(value, bool) or not is_number(value):
        return scope.context.report(
            "NL203", f"{what} must be a number known before the program runs, not {describe(value)}", expr.span
        )
    return value  # type: ignore[return-value]


def size_of(expr: tree.Expr, scope: Scope, what: str, least: int = 1) -> Dim | Poison:
    """A whole number of at least `least`, remembering how the text writes it."""
    value = number_of(expr, scope, what)
    if isinstance(value, Poison):
        return value
    if value != int(value) or value < least:
        shown = str(value) if not isinstance(value, Fraction) else f"{float(value):g}"
        return scope.context.report(
            "NL207", f"{what} must be a whole number of at least {least}, and `{text(expr)}` is {shown}", expr.span
        )
    return Dim(int(value), "" if isinstance(expr, tree.Number) else Written(expr))


def shape_of(expr: tree.List, scope: Scope) -> tuple[Dim, ...] | Poison:
    sizes = tuple(size_of(item, scope, "a size") for item in expr.items)
    return POISON if any(isinstance(s, Poison) for s in sizes) else sizes  # type: ignore[return-value]


def emit_weight(handle: Handle, leaf: str, mode: str, scope: Scope, span: Span) -> Ref:
    """Read a leaf. A rule's body can't see the program's memories, so there the read is made outside and captured."""
    builder = handle.owner if scope.kind == "rule" and handle.owner is not scope.builder else scope.builder
    shape = handle.leaves[leaf].shape
    ref = builder.add(
        Stream("", "weight", (), (), shape, handle.heads, memory=handle.path, leaf=leaf, mode=mode, span=span)
    )
    return scope.builder.capture(ref)


class Written:
    """An expression as the text writes it, put together only when a message shows it."""

    __slots__ = ("expr",)

    def __init__(self, expr: tree.Expr) -> None:
        self.expr = expr

    def __str__(self) -> str:
        return text(self.expr)


def text(expr: Any) -> str:
    """An expression as the text writes it, for messages and names of sizes."""
    match expr:
        case tree.Number():
            value = expr.value
            return (
                str(value).lower()
                if isinstance(value, bool)
                else str(value if isinstance(value, int) else float(value))
            )
        case tree.Name():
            return expr.id
        case tree.Unary():
            return f"{expr.op}{text(expr.operand)}" if expr.op == "-" else f"not {text(expr.operand)}"
        case tree.Binary():
            return f"{_inner(expr.left)} {expr.op} {_inner(expr.right)}"
        case tree.Call():
            return f"{text(expr.function)}({', '.join(text(a.value) for a in expr.arguments)})"
        case tree.List():
            return "[" + ", ".join(map(text, expr.items)) + "]"
        case tree.Index():
            return f"{text(expr.value)}[{text(expr.index)}]"
        case tree.Pipe():
            return f"{text(expr.value)} |> {text(expr.function)}"
    return "…"


def _inner(expr: tree.Expr) -> str:
    return f"({text(expr)})" if isinstance(expr, tree.Binary | tree.Pipe) else text(expr)
