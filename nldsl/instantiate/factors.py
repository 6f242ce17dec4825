"""Conditions, factors and rates: streams as the learn that uses them can take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nldsl.graph import Leaf, Scalar, Shape
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    Handle,
    Poison,
    Ref,
)
from nldsl.shape_rules import ShapeError, broadcast, show_shape
from nldsl.spans import Span
from nldsl.syntax import tree


def condition(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> Ref | Poison | None:
    if statement.when is None:
        return None
    value = ev.operand_of(statement.when, scope)
    if isinstance(value, Poison):
        return POISON
    if not isinstance(value, Ref) or value.dtype != "bool":
        return scope.context.report(
            "NL203",
            "`when` needs a condition, one truth value per tick (and head)",
            statement.when.span,
            hint="compare something: `when norm > 1`",
        )
    heads = handles[0].heads if handles else 0
    value = per_head(value, heads, scope, statement.when.span)
    if isinstance(value, Ref) and (value.shape or value.heads not in (0, heads)):
        return scope.context.report(
            "NL303", "`when` needs one truth value per tick, or one per head of the memory", statement.when.span
        )
    return scope.builder.capture(value) if isinstance(value, Ref) else value


def weights(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> tuple[str | Scalar, ...] | None:
    """`weighted e`: one factor for all, or a list with one per memory."""
    if statement.weighted is None:
        return ()
    given = statement.weighted
    listed = given.items if isinstance(given, tree.List) else (given,) * len(handles)
    if len(listed) != len(handles):
        scope.context.report("NL201", f"`weighted` has {len(listed)} factors for {len(handles)} memories", given.span)
        return None
    factors: list[str | Scalar] = []
    for expr, handle in zip(listed, handles, strict=True):
        value = ev.operand_of(expr, scope)
        if isinstance(value, Ref):
            value = rate(
                value, [(handle.path, leaf, handle.heads) for leaf in handle.leaves.values()], scope, expr.span
            )
        if isinstance(value, Poison):
            return None
        factors.append(scope.builder.capture(value).id if isinstance(value, Ref) else value)
    return tuple(factors)


def over_weight(clause: tree.Over, count: int, handles: tuple[Handle, ...], scope: Scope) -> str | Scalar | Poison:
    assert clause.weight is not None
    value = ev.operand_of(clause.weight, scope)
    if isinstance(value, Ref):
        heads = handles[0].heads
        if value.shape != (count,):
            value = per_head(value, heads, scope, clause.weight.span)
        if isinstance(value, Ref) and (value.shape not in ((), (count,)) or value.heads not in (0, heads)):
            return scope.context.report(
                "NL306", f"`over last {count}` takes one weight per pair, or {count} by age", clause.weight.span
            )
    if isinstance(value, Poison):
        return POISON
    return scope.builder.capture(value).id if isinstance(value, Ref) else value


def per_head(value: Ref, heads: int, scope: Scope, span: Span) -> Ref | Poison:
    """One number per head, however it is written: `[]`, `[1]`, `[heads]`, `[heads, 1]`."""
    emitted: Any = value
    if heads and not value.heads and value.shape in ((heads,), (heads, 1)):
        emitted = value.owner.emit("per_head", (value,), span)
        stream = value.owner.index[emitted.id]
        value.owner.replace(stream, replace(stream, heads=heads))
        return Ref(emitted.id, (), heads, emitted.dtype, emitted.lag, emitted.owner)
    if value.shape and all(int(d) == 1 for d in value.shape):
        emitted = scope.builder.emit("reshape", (value,), span, shape=())
    assert isinstance(emitted, Ref | Poison)
    return emitted


def rate(
    value: Ref, targets: Sequence[tuple[str, Leaf, int]], scope: Scope, span: Span, what: str = "the rate"
) -> Ref | Poison:
    """A rate as its weights can take it: a number per head, or broadcasting on each of them."""
    counts = {heads for _, _, heads in targets}
    heads = counts.pop() if len(counts) == 1 else 0
    fitted = per_head(value, heads, scope, span)
    if isinstance(fitted, Poison):
        return POISON
    if fitted.heads and fitted.heads != heads:
        scope.context.report(
            "NL303",
            f"{what} has {fitted.heads} heads, and what learns by it {'has ' + str(heads) if heads else 'has none'}",
            span,
        )
        return POISON
    for memory, leaf, _ in targets:
        if not fits(fitted.shape, leaf.shape):
            scope.context.report(
                "NL306",
                f"{what} is {show_shape(fitted.shape)}, and does not broadcast on "
                f"`{memory}.{leaf.name}`, which is {show_shape(leaf.shape)}",
                span,
                hint="one number per head, [n] on the output axis, or [n, 1] on the input axis",
            )
            return POISON
    return fitted


def fits(shape: Shape, onto: Shape) -> bool:
    try:
        return broadcast(shape, onto) == onto
    except ShapeError:
        return False
