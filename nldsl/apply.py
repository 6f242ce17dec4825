"""Calls and pipes: definitions, memories and primitives applied to streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nldsl import evaluate as ev
from nldsl import memories, statements, timing, tree
from nldsl.diagnostics import nearest
from nldsl.graph import Scalar
from nldsl.primitives import PRIMITIVES, Dim, show_shape
from nldsl.scope import Scope, snake
from nldsl.spans import Span
from nldsl.values import (
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

Operand = Ref | Scalar | Poison


def call(expr: tree.Call, scope: Scope) -> Value:
    function = ev.evaluate(expr.function, scope)
    match function:
        case Builtin():
            return _builtin(function, (), expr.arguments, scope, expr.span)
        case Function(complete=False) if not _gives_streams(function, expr.arguments, scope):
            return bind(function, expr.arguments, scope, expr.span)
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
            return _builtin(callee, first, right.arguments, scope, expr.span)
        function = (
            bind(callee, right.arguments, scope, right.span)
            if isinstance(callee, Function) and (not callee.complete)
            else ev.evaluate(right, scope)
        )
    else:
        function = ev.evaluate(right, scope)
    first = (ev.as_operand(value, scope, expr.value),)
    match function:
        case Builtin():
            return _builtin(function, first, (), scope, expr.span)
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


# Binding hyper-parameters


def _gives_streams(function: Function, arguments: Sequence[tree.Argument], scope: Scope) -> bool:
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
    return any(_is_stream(a.value, quiet) for a in arguments)


def _is_stream(expr: tree.Expr, scope: Scope) -> bool:
    """A look at an expression without evaluating it: does it mention a stream or a memory?"""
    match expr:
        case tree.Name():
            return expr.id in ("tick", "self") or isinstance(scope.env.get(expr.id), Ref | Handle | Poison)
        case tree.Unary():
            return _is_stream(expr.operand, scope)
        case tree.Binary():
            return _is_stream(expr.left, scope) or _is_stream(expr.right, scope)
        case tree.Pipe():
            return _is_stream(expr.value, scope)
        case tree.Call():
            parts = (expr.function, *(a.value for a in expr.arguments))
            return any(_is_stream(p, scope) for p in parts)
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
                value = value if isinstance(value, bool) else Dim(value, ev.text(argument.value))
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


# Applying


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
        return memories.read(function, streams, scope, span)
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
        return memories.apply_in_place(function, streams, scope, span)
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
            f"`{function.name}` is over {len(definition.ports)} stream(s) ({takes}), and gets {len(streams)}",
            span,
            second=(definition.name.span, "defined here"),
        )
    env = environment(function, scope, span)
    if env is None:
        return POISON
    inner = scope.deeper(definition, span, module=function.module, env=env, **changes)
    for port, stream in zip(definition.ports, streams, strict=True):
        if not bind_port(port, stream, inner, span, loose=definition.kind == "net"):
            return POISON
    context = scope.context
    context.opened = (*context.opened, definition)
    try:
        results = statements.run(definition.body, inner)
    finally:
        context.opened = context.opened[:-1]
    return _results(function, results, inner, span)


def bind_port(port: tree.Port, stream: Operand, scope: Scope, span: Span, loose: bool = False) -> bool:
    """Give a port its stream; sizes that are names and not yet known become known. loose: leading axes may be more."""
    scope.env[port.name] = stream
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


def _mentions(expr: Any, name: str) -> bool:
    return name in ev.text(expr).replace("[", " ").replace("]", " ").replace(",", " ").replace("(", " ").split()


def _results(function: Function, results: list[Value] | None, scope: Scope, span: Span) -> Value:
    definition = function.definition
    if results is None:
        return POISON
    declared = definition.results
    if declared and len(declared) != len(results):
        return scope.context.report(
            "NL206",
            f"`{function.name}` declares {len(declared)} result(s) and returns {len(results)}",
            definition.name.span,
        )
    for expr, value in zip(declared, results, strict=False):
        if isinstance(expr, tree.List) and isinstance(value, Ref):
            what = f"the result of `{function.name}`"
            if not match_shape(expr, value.shape, scope, span, what, loose=definition.kind == "net"):
                return POISON
    return results[0] if len(results) == 1 else results


# Primitives


def _builtin(
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
