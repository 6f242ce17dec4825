"""The functions that are about time, gradients or the text itself: `self`, `data`, `next`, `window_mean`, `rank`, …"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nldsl.graph import Stream
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate import factors, reading
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import POISON, Operand, Poison, Ref, Value
from nldsl.primitives import PRIMITIVES
from nldsl.spans import Span
from nldsl.syntax import tree

First = tuple[Operand, ...]
Arguments = Sequence[tree.Argument]


def _one(name: str, first: First, arguments: Arguments, scope: Scope, span: Span) -> Operand:
    if len(first) + len(arguments) != 1 or any(a.name for a in arguments):
        return scope.context.report("NL201", f"`{name}` takes one argument", span)
    return first[0] if first else ev.operand_of(arguments[0].value, scope)


def _self(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    teaching = scope.teaching
    if teaching is None or teaching.handle is None:
        return scope.context.report(
            "NL107", "`self` is the memory that a `learn` teaches; it has no meaning here", span
        )
    streams = (*first, *(ev.operand_of(a.value, scope) for a in arguments))
    if any(isinstance(s, Poison) for s in streams):
        return POISON
    return reading.read(teaching.handle, streams, scope.at(via_self=True), span)


def _data(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    if scope.teaching is None:
        value = _one("data", first, arguments, scope, span)
        return scope.builder.emit("data", (value,), span)
    return _one("data", first, arguments, scope.at(teaching=replace(scope.teaching, data=True)), span)


def _next(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    value = _one("next", first, arguments, scope, span)
    if not isinstance(value, Ref):
        return value
    if value.owner.parent is not None or scope.unit != "token" or scope.kind == "rule":
        return scope.context.report("NL503", "`next` looks ahead in the program's own inputs, not here", span)
    ahead = _shift(value, scope.at(builder=value.owner), span)
    return ahead if isinstance(ahead, Poison) else scope.builder.capture(ahead)


def _shift(ref: Ref, scope: Scope, span: Span) -> Ref | Poison:
    """The same stream one tick later. What is computed from inputs alone is computed again from the next inputs."""
    builder = scope.builder
    if ref.id not in builder.index:
        return builder.add(Stream("", "next", (ref.id,), (), ref.shape, ref.heads, ref.dtype, lag=1, span=span))
    stream = builder.index[ref.id]
    if stream.lag or stream.op == "next":
        return scope.context.report("NL503", "`next` looks one tick ahead, and this would be two", span)
    if stream.op in ("weight", "recall", "tick") or PRIMITIVES[stream.op].state:
        why = f"reads `{stream.memory}`" if stream.memory else f"uses `{stream.op}`"
        return scope.context.report(
            "NL503",
            f"`next` of a stream that {why}: its next value is not known yet",
            span,
            second=(stream.span, "here"),
            hint="take `next` of an input, and compute from that",
        )
    args: list[Any] = []
    for arg in stream.args:
        if isinstance(arg, str):
            port = next((p for p in builder.inputs if p.id == arg), None)
            source = builder.index.get(arg) or port
            assert source is not None
            moved = _shift(Ref(arg, source.shape, source.heads, source.dtype, 0, builder), scope, span)
            if isinstance(moved, Poison):
                return moved
            args.append(moved.id)
        else:
            args.append(arg)
    return builder.add(replace(stream, args=tuple(args), lag=1, span=span))


def _window(name: str) -> Callable[[First, Arguments, Scope, Span], Value]:
    def gather(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
        window = scope.window
        if window is None:
            return scope.context.report(
                "NL402",
                f"`{name}` gathers for a slower clock, and nothing here is slower",
                span,
                hint="use it in the arguments of a `learn … every N tokens`, or in `M <- … every N tokens`",
            )
        value = _one(name, first, arguments, scope.at(window=None), span)
        if not isinstance(value, Ref):
            return value
        value = factors.per_head(value, window.heads, scope, span)  # each head gathers its own
        if isinstance(value, Poison):
            return value
        source = scope.builder.capture(value)
        when = (scope.builder.capture(window.when).id,) if window.when is not None else ()
        return scope.builder.add(
            Stream(
                "",
                name,
                (source.id, *when),
                (("serves", window.serves), ("aligned", window.aligned)),
                value.shape,
                value.heads,
                value.dtype,
                every=window.count,
                lag=value.lag,
                span=span,
            )
        )

    return gather


def _rank(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    value = _one("rank", first, arguments, scope, span)
    return len(value.shape) if isinstance(value, Ref) else (value if isinstance(value, Poison) else 0)


def _width(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    value = _one("width", first, arguments, scope, span)
    if isinstance(value, Ref):
        return int(value.shape[-1]) if value.shape else 1
    return value if isinstance(value, Poison) else 1


def _shape(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    given = [*first, *(ev.operand_of(a.value, scope) for a in arguments)]
    if any(isinstance(g, Poison) for g in given):
        return POISON
    value = given[0] if given else None
    if isinstance(value, Ref) and len(given) == 1:
        return [int(d) for d in value.shape]
    axis = given[1] if len(given) == 2 else None
    if isinstance(value, Ref) and isinstance(axis, int) and -len(value.shape) <= axis < len(value.shape):
        return int(value.shape[axis])
    return scope.context.report(
        "NL201", "`shape(x)` is the list of a stream's sizes, `shape(x, axis)` one of them", span
    )


def _total_norm(first: First, arguments: Arguments, scope: Scope, span: Span) -> Value:
    value = _one("total_norm", first, arguments, scope, span)
    if isinstance(value, Poison):
        return POISON
    if scope.kind != "rule" or not isinstance(value, Ref) or value.id != "g":
        return scope.context.report(
            "NL107",
            "`total_norm(g)` is the norm of all gradients of a learn: it belongs in an optimizer over `g`",
            span,
        )
    known = next((p for p in scope.builder.inputs if p.id == "total_norm"), None)
    return Ref("total_norm", (), 0, "real", 0, scope.builder) if known else scope.builder.port("total_norm", ())


SPECIAL: dict[str, Callable[[First, Arguments, Scope, Span], Value]] = {
    "self": _self,
    "data": _data,
    "next": _next,
    "window_sum": _window("window_sum"),
    "window_mean": _window("window_mean"),
    "window_last": _window("window_last"),
    "rank": _rank,
    "width": _width,
    "shape": _shape,
    "total_norm": _total_norm,
}
