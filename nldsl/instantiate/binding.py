"""Binding: hyper-parameters to their values, ports to their streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from nldsl.diagnostics import nearest
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    Function,
    Handle,
    Operand,
    Poison,
    Ref,
    Value,
    describe,
    is_number,
)
from nldsl.shape_rules import Dim, plural, show_shape
from nldsl.spans import Span
from nldsl.syntax import tree


def gives_streams(function: Function, arguments: Sequence[tree.Argument], scope: Scope) -> bool:
    """Whether `f(…)` applies f to streams, its hyper-parameters at their defaults."""
    definition = function.definition
    if definition.kind in ("optimizer", "retention"):
        return False
    if not definition.parameters:
        return True
    if any(p.default is None for p in definition.parameters) or any(a.name for a in arguments):
        return False
    if len(arguments) != len(definition.ports):
        return False
    quiet = scope.at(context=replace(scope.context, findings=type(scope.context.findings)()))
    return any(is_stream(a.value, quiet) for a in arguments)


def is_stream(expr: tree.Expr, scope: Scope) -> bool:
    """A look at an expression without evaluating it: does it mention a stream or a memory?"""
    match expr:
        case tree.Name():
            return expr.id in ("tick", "self") or isinstance(scope.env.get(expr.id), Ref | Handle | Poison)
        case tree.Unary():
            return is_stream(expr.operand, scope)
        case tree.Binary():
            return is_stream(expr.left, scope) or is_stream(expr.right, scope)
        case tree.Pipe():
            return is_stream(expr.value, scope)
        case tree.Call():
            parts = (expr.function, *(a.value for a in expr.arguments))
            return any(is_stream(p, scope) for p in parts)
    return False


def bind(function: Function, arguments: Sequence[tree.Argument], scope: Scope, span: Span) -> Function | Poison:
    """Give a definition its hyper-parameters; what is left out keeps its default."""
    definition, names = function.definition, [p.name for p in function.definition.parameters]
    streams_allowed = definition.kind in ("objective", "optimizer", "retention")
    bound: dict[str, Value] = dict(function.bound)
    wrong = False
    for position, argument in enumerate(arguments):
        name = argument.name or (names[position] if position < len(names) else "")
        value = ev.evaluate(argument.value, scope)
        if not name:
            takes = ", ".join(f"`{n}`" for n in names) or "no hyper-parameters"
            scope.context.report(
                "NL201",
                f"`{function.name}` takes {takes}, and this is one too many",
                argument.span,
                second=(definition.name.span, "defined here"),
            )
            wrong = True
        elif name not in names:
            scope.context.report(
                "NL202",
                f"`{function.name}` has no hyper-parameter `{name}`",
                argument.span,
                hint=nearest(name, names),
                alternatives=tuple(f"`{n}`" for n in names),
            )
            wrong = True
        elif name in bound:
            scope.context.report("NL202", f"`{name}` is given twice", argument.span)
            wrong = True
        elif isinstance(value, Poison):
            wrong = True
        elif streams_allowed or _is_plain(value):
            if isinstance(value, Handle):
                value = ev.as_operand(value, scope, argument.value)
            elif is_number(value) and not isinstance(argument.value, tree.Number) and isinstance(value, int):
                value = value if isinstance(value, bool) else Dim(value, ev.Written(argument.value))
            bound[name] = value
        else:
            scope.context.report(
                "NL203",
                f"`{name}` of `{function.name}` must be a number known before the program runs, not {describe(value)}",
                argument.span,
            )
            wrong = True
    return POISON if wrong else Function(definition, function.module, bound, True, span)


def _is_plain(value: object) -> bool:
    return is_number(value) or (isinstance(value, list) and all(map(_is_plain, value)))


def environment(function: Function, scope: Scope, span: Span) -> dict[str, Value] | None:
    """The hyper-parameters' values; None after reporting those that have none."""
    env: dict[str, Value] = {}
    inner = scope.at(module=function.module, env=env)
    for parameter in function.definition.parameters:
        if parameter.name in function.bound:
            value = function.bound[parameter.name]
        elif parameter.default is not None:
            value = ev.evaluate(parameter.default, inner)
        else:
            scope.context.report(
                "NL201",
                f"`{function.name}` needs `{parameter.name}`",
                span,
                second=(parameter.span, "it has no default"),
                hint=f"write `{function.name}({parameter.name} = …)`",
            )
            return None
        if isinstance(value, Poison):
            return None
        env[parameter.name] = _named(value, parameter.name)
    return env


def _named(value: Value, name: str) -> Value:
    """A whole number known by its hyper-parameter's name, so that shapes in messages are."""
    return Dim(value, name) if isinstance(value, int) and not isinstance(value, bool) else value


def bind_port(port: tree.Port, stream: Operand, scope: Scope, span: Span, loose: bool = False) -> bool:
    """Give a port its stream; sizes that are names and not yet known become known. loose: leading axes may be more."""
    scope.env[port.name] = stream
    what = f"`{port.name}` of `{scope.definition.name.id}`"
    if isinstance(port.shape, tree.Name) and isinstance(stream, Ref) and stream.dtype != "int":
        scope.context.report(
            "NL302",
            f"{what} is declared `int`, and this is a stream of numbers",
            span,
            second=(port.span, "declared here"),
        )
        return False
    if isinstance(port.shape, tree.List) and isinstance(stream, Ref) and stream.dtype == "bool":
        scope.context.report(
            "NL107",
            f"{what} is a stream of numbers, and this is a truth value",
            span,
            hint="`where(condition, 1, 0)` makes numbers of it",
        )
        return False
    if isinstance(port.shape, tree.List) and port.shape.items and not isinstance(stream, Ref):
        scope.context.report(
            "NL302",
            f"{what} is declared {ev.text(port.shape)}, and this is a number",
            span,
            second=(port.span, "declared here"),
        )
        return False
    if isinstance(port.shape, tree.List) and isinstance(stream, Ref):
        return match_shape(
            port.shape, stream.shape, scope, span, f"`{port.name}` of `{scope.definition.name.id}`", loose
        )
    return True


def match_shape(
    declared: tree.List, actual: tuple[int, ...], scope: Scope, span: Span, what: str, loose: bool = False
) -> bool:
    rank = len(declared.items)
    fits = len(actual) == rank or (loose and len(actual) > rank > 0)
    for expr, size in zip(declared.items, actual[len(actual) - rank :] if fits else (), strict=False):
        if isinstance(expr, tree.Name) and expr.id not in scope.env:
            scope.env[expr.id] = Dim(size, getattr(size, "name", "") or expr.id)
            continue
        wanted = ev.size_of(expr, scope, "a size")
        if isinstance(wanted, Poison):
            return False
        fits = fits and int(wanted) == int(size)
    if not fits:
        known = tuple((n, str(int(v))) for n, v in scope.env.items() if isinstance(v, int) and _mentions(declared, n))
        scope.context.report(
            "NL302",
            f"{what} is declared {ev.text(declared)} and is {show_shape(actual)}",
            span,
            second=(declared.span, "declared here"),
            values=known,
        )
    return fits


def returned(definition: tree.Definition) -> Span:
    """Where a definition says what it returns."""
    found = [s for s in definition.body if isinstance(s, tree.Return)]
    return found[-1].values[0].span if found else definition.name.span


def match_results(definition: tree.Definition, results: Sequence[Value], scope: Scope) -> bool:
    """Whether the results are as many, and of the shapes, as the definition declares."""
    declared, name = definition.results, definition.name.id
    if declared and len(declared) != len(results):
        returns = f"declares {plural(len(declared), 'result')} and returns {len(results)}"
        scope.context.report(
            "NL206", f"`{name}` {returns}", returned(definition), second=(declared[0].span, "declared here")
        )
        return False
    said = [s for s in definition.body if isinstance(s, tree.Return)]
    for i, (expr, value) in enumerate(zip(declared, results, strict=False)):
        span = said[-1].values[i].span if said else definition.name.span
        if isinstance(expr, tree.Name) and expr.id != "int":
            hint = "write its shape, such as `[dim]`, or `int`"
            scope.context.report(
                "NL107", f"a result is `int` or has a shape; `{expr.id}` is neither", expr.span, hint=hint
            )
            return False
        if isinstance(expr, tree.Name) and isinstance(value, Ref) and value.dtype != "int":
            scope.context.report("NL302", f"the result of `{name}` is declared `int` and is not whole", span)
            return False
        what, loose = f"the result of `{name}`", definition.kind == "net"
        shaped = isinstance(expr, tree.List) and isinstance(value, Ref)
        if shaped and not match_shape(cast(tree.List, expr), cast(Ref, value).shape, scope, span, what, loose):
            return False
    return True


def _mentions(expr: Any, name: str) -> bool:
    return name in ev.text(expr).replace("[", " ").replace("]", " ").replace(",", " ").replace("(", " ").split()
