"""Primitives called by name: which arguments are streams and which are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nldsl.diagnostics import nearest
from nldsl.instantiate import binding, timing
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    AttentionForm,
    Builtin,
    Operand,
    Poison,
    Value,
)
from nldsl.primitives import PRIMITIVES
from nldsl.spans import Span
from nldsl.syntax import tree


def call_builtin(
    function: Builtin, first: tuple[Operand, ...], arguments: Sequence[tree.Argument], scope: Scope, span: Span
) -> Value:
    name = function.name
    if name in timing.SPECIAL:
        return timing.SPECIAL[name](first, arguments, scope, span)
    if name == "attention":
        return _attention(arguments, scope)
    row = PRIMITIVES[name]
    if name in ("zeros", "ones"):
        sizes = [ev.size_of(a.value, scope, "a size") for a in arguments]
        if any(isinstance(s, Poison) for s in sizes):
            return POISON
        return scope.builder.emit(name, (), span, shape=tuple(sizes))
    positional = [a for a in arguments if a.name is None]
    many = bool(row.args) and row.args[-1].endswith("*")
    room = len(positional) if many else max(0, len(row.args) - len(first))
    if not first and _is_partial(name, positional, scope):
        room = 0
    streams = (*first, *(ev.operand_of(a.value, scope) for a in positional[:room]))
    if name == "rope" and len(streams) == 1:
        streams = (*streams, _position(arguments, scope, span))
        arguments = [a for a in arguments if a.name != "position"]
    attrs = _attributes(name, function.given, positional[room:], [a for a in arguments if a.name], scope, span)
    if attrs is None:
        return POISON
    missing = not many and len(streams) < len(row.args)
    if missing and not streams and attrs and all(v is not ... for v in attrs.values()):
        return Builtin(name, tuple(attrs.items()))
    if missing or (many and not streams) or any(v is ... for v in attrs.values()):
        wants = ", ".join(f"`{a.rstrip('*')}`" for a in (*row.args, *row.attrs))
        return scope.context.report("NL201", f"`{name}` takes {wants}: {row.doc}", span)
    return scope.builder.emit(name, streams, span, **attrs)


def _is_partial(name: str, positional: Sequence[tree.Argument], scope: Scope) -> bool:
    """Whether `split(4)` gives the numbers only, its stream to come: `split(4)(x)`."""
    row = PRIMITIVES[name]
    needed = [n for n, default in row.attrs.items() if default is ...]
    numbers = all(not binding.is_stream(a.value, scope) for a in positional)
    return bool(needed) and len(positional) == len(needed) and numbers


def _position(arguments: Sequence[tree.Argument], scope: Scope, span: Span) -> Operand:
    for argument in arguments:
        if argument.name == "position":
            return ev.operand_of(argument.value, scope)
    return ev.as_operand(scope.tick or scope.builder.emit("tick", (), span), scope, tree.Name("tick"))


def _attributes(
    name: str,
    given: tuple[tuple[str, Any], ...],
    positional: Sequence[tree.Argument],
    named: Sequence[tree.Argument],
    scope: Scope,
    span: Span,
) -> dict[str, Any] | None:
    row = PRIMITIVES[name]
    attrs = row.attrs | dict(given)
    open_names = [n for n in row.attrs if n not in dict(given)]
    pairs = [*zip(open_names, positional, strict=False), *((a.name or "", a) for a in named)]
    if len(positional) > len(open_names):
        wants = ", ".join(f"`{a.rstrip('*')}`" for a in (*row.args, *row.attrs))
        scope.context.report(
            "NL201", f"`{name}` takes {wants}, and this is one too many", positional[len(open_names)].span
        )
        return None
    for attr, argument in pairs:
        if attr not in row.attrs:
            scope.context.report(
                "NL202", f"`{name}` has no argument `{attr}`", argument.span, hint=nearest(attr, row.attrs)
            )
            return None
        value = _attribute(name, attr, argument.value, scope)
        if isinstance(value, Poison):
            return None
        attrs[attr] = value
    return attrs


def _attribute(name: str, attr: str, expr: tree.Expr, scope: Scope) -> Any:
    what = f"`{attr}` of `{name}`"
    if attr == "shape" and isinstance(expr, tree.List):
        return ev.shape_of(expr, scope)
    if attr in ("axis", "start"):
        number = ev.number_of(expr, scope, what)
        return number if isinstance(number, Poison) else int(number)
    return ev.number_of(expr, scope, what) if attr == "base" else ev.size_of(expr, scope, what)


def _attention(arguments: Sequence[tree.Argument], scope: Scope) -> Value:
    sizes = {"window": 0, "persistent": 0}
    given = [a.name or n for n, a in zip(sizes, arguments, strict=False)]
    if len(arguments) > len(sizes) or len(set(given)) < len(given):
        message = "`attention` takes `window` and `persistent`, each once"
        return scope.context.report("NL201", message, arguments[-1].span)
    for name, argument in zip(sizes, arguments, strict=False):
        name = argument.name or name
        if name not in sizes:
            return scope.context.report(
                "NL202", f"`attention` has no argument `{name}`", argument.span, hint=nearest(name, sizes)
            )
        size = ev.size_of(argument.value, scope, f"`{name}` of `attention`", least=0)
        if isinstance(size, Poison):
            return POISON
        sizes[name] = int(size)
    return AttentionForm(**sizes)
