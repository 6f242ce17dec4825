"""Calls and pipes: nets, blocks, objectives and memories applied to streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nldsl.instantiate import binding, functions, reading, statements
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    Builtin,
    Composition,
    Function,
    Handle,
    Operand,
    Poison,
    Ref,
    Value,
    describe,
    is_number,
)
from nldsl.naming import snake
from nldsl.shape_rules import plural
from nldsl.spans import Span
from nldsl.syntax import tree


def call(expr: tree.Call, scope: Scope) -> Value:
    function = ev.evaluate(expr.function, scope)
    match function:
        case Builtin():
            return functions.call_builtin(function, (), expr.arguments, scope, expr.span)
        case Function(complete=False) if not binding.gives_streams(function, expr.arguments, scope):
            return binding.bind(function, expr.arguments, scope, expr.span)
        case Function() | Composition() | Handle():
            streams = _streams(expr.arguments, scope)
            return POISON if streams is None else apply(function, streams, scope, expr.span)
        case Poison():
            for argument in expr.arguments:
                ev.evaluate(argument.value, scope)
            return POISON
    return scope.context.report("NL107", f"{describe(function)} can't be applied", expr.function.span)


def pipe(expr: tree.Pipe, scope: Scope) -> Value:
    value = ev.evaluate(expr.value, scope)
    if isinstance(value, Function | Composition):
        return _compose(value, expr, scope)
    right = expr.function
    if isinstance(right, tree.Call):
        callee = ev.evaluate(right.function, scope)
        if isinstance(callee, Builtin):
            first = (ev.as_operand(value, scope, expr.value),)
            return functions.call_builtin(callee, first, right.arguments, scope, expr.span)
        function = (
            binding.bind(callee, right.arguments, scope, right.span)
            if isinstance(callee, Function) and (not callee.complete)
            else ev.evaluate(right, scope)
        )
    else:
        function = ev.evaluate(right, scope)
    first = (ev.as_operand(value, scope, expr.value),)
    match function:
        case Builtin():
            return functions.call_builtin(function, first, (), scope, expr.span)
        case Function() | Composition() | Handle():
            return apply(function, first, scope, expr.span)
        case Poison():
            return POISON
    return scope.context.report(
        "NL107", f"a stream is piped into a net, a block or a memory, not into {describe(function)}", right.span
    )


def _compose(value: Function | Composition, expr: tree.Pipe, scope: Scope) -> Value:
    function = ev.evaluate(expr.function, scope)
    if isinstance(function, Poison):
        return POISON
    parts = value.parts if isinstance(value, Composition) else (value,)
    if not isinstance(function, Function) or any(p.definition.kind != "net" for p in (*parts, function)):
        return scope.context.report("NL107", f"only nets make a chain, and this is {describe(function)}", expr.span)
    return Composition((*parts, function))


def _streams(arguments: Sequence[tree.Argument], scope: Scope) -> tuple[Operand, ...] | None:
    for argument in arguments:
        if argument.name:
            scope.context.report("NL202", f"streams are given by position, not as `{argument.name} = …`", argument.span)
            return None
    return tuple(ev.operand_of(a.value, scope) for a in arguments)


def apply(function: Function | Composition | Handle, streams: tuple[Operand, ...], scope: Scope, span: Span) -> Value:
    if any(isinstance(s, Poison) for s in streams):
        return POISON
    if isinstance(function, Handle):
        return reading.read(function, streams, scope, span)
    if isinstance(function, Composition):
        result: Value = POISON
        for part in function.parts:
            result = apply(part, streams, scope, span)
            if not isinstance(result, Ref):
                return POISON
            streams = (result,)
        return result
    kind = function.definition.kind
    if kind == "net":
        return reading.apply_in_place(function, streams, scope, span)
    if kind == "block":
        return _block(function, streams, scope, span)
    if kind == "objective":
        return apply_body(function, streams, scope, span)
    where = {"optimizer": "`learn … by`", "retention": "`learn … retaining`"}.get(kind, "a program of its own")
    return scope.context.report("NL107", f"the {kind} `{function.name}` belongs in {where}, not in an expression", span)


def _block(function: Function, streams: tuple[Operand, ...], scope: Scope, span: Span) -> Value:
    if scope.kind != "tick" or scope.unit != "token" or scope.handle is not None:
        place = "a net" if scope.handle is not None else "an objective" if scope.kind == "objective" else "an optimizer"
        return scope.context.report(
            "NL107",
            f"the block `{function.name}` can't stand inside {place}",
            span,
            hint="a net holds weights only; blocks belong in blocks and models",
        )
    path = scope.path + scope.element(snake(function.name))
    return apply_body(function, streams, scope, span, path=path)


def apply_body(function: Function, streams: tuple[Operand, ...], scope: Scope, span: Span, **changes: Any) -> Value:
    """Run a definition's body on these streams, in the builder of the scope."""
    definition = function.definition
    if definition in scope.context.opened:
        names = [d.name.id for d in scope.context.opened[scope.context.opened.index(definition) :]]
        cycle = " -> ".join(f"`{n}`" for n in (*names, definition.name.id))
        return scope.context.report(
            "NL112", f"a definition can't apply itself: {cycle}", span, hint="use `repeat` or `for`"
        )
    if len(streams) != len(definition.ports):
        takes = ", ".join(f"`{p.name}`" for p in definition.ports) or "none"
        return scope.context.report(
            "NL201",
            f"`{function.name}` is over {plural(len(definition.ports), 'stream')} ({takes}), and gets {len(streams)}",
            span,
            second=(definition.name.span, "defined here"),
        )
    env = binding.environment(function, scope, span)
    if env is None:
        return POISON
    inner = scope.deeper(definition, span, module=function.module, env=env, **changes)
    for port, stream in zip(definition.ports, streams, strict=True):
        if not binding.bind_port(port, stream, inner, span, loose=definition.kind == "net"):
            return POISON
    context = scope.context
    context.opened = (*context.opened, definition)
    context.sites.append(span)
    results = statements.run(definition.body, inner)
    value = _results(function, results, inner, span)
    context.sites.pop()
    context.opened = context.opened[:-1]
    return value


def _results(function: Function, results: list[Value] | None, scope: Scope, span: Span) -> Value:
    definition = function.definition
    if results is None:
        return POISON
    if not binding.match_results(definition, results, scope):
        return POISON
    if definition.kind != "net":
        return results[0] if len(results) == 1 else results
    (value,) = results if len(results) == 1 else (None,)
    if value is None or isinstance(value, list):
        count = len(value if isinstance(value, list) else results)
        return scope.context.report(
            "NL206",
            f"the net `{function.name}` gives {count} results, and a net gives one",
            binding.returned(definition),
            hint="`concat(a, b)` joins them; a block may return several",
        )
    if is_number(value):
        zeros = scope.builder.emit("zeros", (), span, shape=())
        return scope.builder.emit("add", (zeros, value), span)  # type: ignore[arg-type]
    return value
