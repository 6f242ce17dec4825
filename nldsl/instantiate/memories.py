"""Declarations: memories, states, parameters, and when they restart."""

from __future__ import annotations

from typing import Any

from nldsl.diagnostics import nearest
from nldsl.graph import Leaf
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate import factors, reading
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    AttentionForm,
    Builtin,
    Composition,
    Function,
    Handle,
    Poison,
    Ref,
    describe,
)
from nldsl.spans import Span
from nldsl.syntax import tree


def declare(statement: tree.MemoryDecl, scope: Scope) -> None:
    """`memory K[heads], V[heads] = net [from …] [reset …]`."""
    if scope.handle is not None or scope.kind == "objective":
        scope.context.report("NL107", "a net holds no memory: its weights are `param`s", statement.span)
        scope.env.update({target.name: POISON for target in statement.targets})
        return
    value = ev.evaluate(statement.net, scope)
    for target in statement.targets:
        handle = _handle(target, scope, statement.span)
        match value:
            case Function() if value.definition.kind == "net":
                handle.parts = (value,)
            case Composition():
                handle.parts = value.parts
            case AttentionForm():
                _attend(handle, value)
            case Poison():
                handle.broken = True
            case _:
                scope.context.report(
                    "NL107",
                    f"a memory is made of nets, not of {describe(value)}",
                    statement.net.span,
                    hint="for example `memory M = mlp(dim)`, or `attention()`",
                )
                handle.broken = True
        if statement.start is not None and handle.form == "attention":
            hint = "`persistent = n` gives it n learned pairs"
            scope.context.report(
                "NL205", "attention starts empty, and takes no `from`", statement.start.span, hint=hint
            )
        elif statement.start is not None:
            _start(handle, statement.start, scope)
        reset(handle, statement.reset, scope)
        register(handle, scope, target.span)
        scope.env[target.name] = handle


def declare_state(statement: tree.StateDecl, scope: Scope) -> None:
    """`state s[heads]: shape = start [reset …]`; in a rule over g the shape is g's unless it says otherwise."""
    if scope.handle is not None or scope.kind == "objective":
        scope.context.report(
            "NL107",
            "a net holds no state: what lasts from tick to tick belongs in a block or an optimizer",
            statement.span,
        )
        scope.env[statement.target.name] = POISON
        return
    handle = _handle(statement.target, scope, statement.span)
    handle.form, handle.start = "state", "constant"
    shape: Any = ()
    served = scope.env.get("g", scope.env.get("w"))
    if statement.shape is not None:
        shape = ev.shape_of(statement.shape, scope)
    elif scope.kind == "rule" and isinstance(served, Ref):
        shape = served.shape
    start = ev.evaluate(statement.start, scope)
    if isinstance(start, Builtin) and start.name in ("zeros", "ones"):
        start = int(start.name == "ones")
    if isinstance(start, Poison) or isinstance(shape, Poison):
        handle.broken, shape = True, ()
    elif not isinstance(start, int | float) and not hasattr(start, "denominator"):
        scope.context.report(
            "NL203",
            f"a state starts at a number, not at {describe(start)}",
            statement.start.span,
            hint="`zeros`, `ones` or a number; a start that is learned belongs to a `memory`",
        )
        handle.broken, start = True, 0
    if not handle.broken:
        handle.leaves["value"] = Leaf("value", shape, ("constant", start), statement.target.span)
    reset(handle, statement.reset, scope)
    register(handle, scope, statement.target.span)
    scope.env[statement.target.name] = handle


def declare_param(statement: tree.ParamDecl, scope: Scope) -> None:
    """`param up: [d, 4 * d] = normal(d ^ -0.5)` in a net."""
    handle = scope.handle
    if handle is None:
        scope.context.report(
            "NL107", "`param` belongs in a net; a block keeps its weights in a `memory`", statement.span
        )
        scope.env[statement.name] = POISON
        return
    name = ".".join((*scope.leaf_path, statement.name + scope.suffix))
    if scope.binders.setdefault(f"param {name}", id(statement)) != id(statement):
        scope.context.report("NL102", f"`{statement.name}` is declared twice", statement.span)
    shape = ev.shape_of(statement.shape, scope)
    init = _init(statement.init, scope)
    if isinstance(shape, Poison) or init is None:
        scope.env[statement.name] = POISON
        return
    known = handle.leaves.get(name)
    if known is None:
        size = max(1, handle.heads)
        for axis in shape:
            size *= axis
        scope.context.budget.leaf(size, statement.span)
        if handle.start == "constant" and isinstance(handle.start_expr, tree.Number):
            init = ("constant", handle.start_expr.value)
        handle.leaves[name] = Leaf(name, shape, init, statement.span)
    elif known.shape != shape:
        scope.context.report(
            "NL302",
            f"`{handle.path}.{name}` is {ev.text(statement.shape)}, and its uses give it two shapes",
            statement.span,
            values=(("first", str(list(map(int, known.shape)))), ("now", str(list(map(int, shape))))),
        )
        scope.env[statement.name] = POISON
        return
    scope.env[statement.name] = ev.emit_weight(handle, name, reading.mode(handle, scope), scope, statement.span)


def _handle(target: tree.Target, scope: Scope, span: Span) -> Handle:
    heads: Any = 0
    if target.heads is not None:
        heads = ev.size_of(target.heads, scope, "the number of heads")
    path = ".".join((*scope.path, target.name + scope.suffix))
    broken = isinstance(heads, Poison)
    return Handle(path, "weights", 0 if broken else int(heads), span=target.span, owner=scope.builder, broken=broken)


def _attend(handle: Handle, form: AttentionForm) -> None:
    handle.form, handle.window, handle.persistent = "attention", form.window, form.persistent


def _start(handle: Handle, expr: tree.Expr, scope: Scope) -> None:
    """`from zeros` and numbers are constants; anything else is computed from `start` or another memory at the end,
    when the leaves are known."""
    if isinstance(expr, tree.Name) and expr.id in ("zeros", "ones") and expr.id not in scope.env:
        expr = tree.Number(int(expr.id == "ones"), span=expr.span)
    if isinstance(expr, tree.Number):
        handle.start, handle.start_expr = "constant", expr
    else:
        handle.start, handle.start_expr, handle.start_env = "body", expr, scope.at(env=dict(scope.env))


_INITS = {"normal": ("std",), "uniform": ("low", "high")}


def _init(expr: tree.Expr, scope: Scope) -> tuple[Any, ...] | None:
    if isinstance(expr, tree.Name) and expr.id in ("zeros", "ones"):
        return ("constant", int(expr.id == "ones"))
    if isinstance(expr, tree.Call) and isinstance(expr.function, tree.Name):
        name = expr.function.id
        if name not in _INITS:
            scope.context.report(
                "NL101",
                f"there is no start `{name}`",
                expr.function.span,
                hint=nearest(name, _INITS),
                alternatives=("`normal(std)`", "`uniform(low, high)`", "`zeros`", "`ones`"),
            )
            return None
        numbers = [ev.number_of(a.value, scope, f"`{name}`'s argument") for a in expr.arguments]
        if any(isinstance(n, Poison) for n in numbers):
            return None
        if len(numbers) != len(_INITS[name]):
            scope.context.report("NL201", f"`{name}` takes {', '.join(f'`{n}`' for n in _INITS[name])}", expr.span)
            return None
        return (name, *numbers)
    number = ev.number_of(expr, scope, "a parameter's start")
    return None if isinstance(number, Poison) else ("constant", number)


def reset(handle: Handle, clause: tree.Reset | None, scope: Scope) -> None:
    if clause is None:
        return
    if clause.every is not None:
        count = quantity(clause.every, scope, (scope.unit,))
        handle.reset_every = count[0] if count else 0
    if clause.when is not None:
        condition = ev.operand_of(clause.when, scope)
        if isinstance(condition, Ref):
            condition = factors.per_head(condition, handle.heads, scope, clause.when.span)
        fits = isinstance(condition, Ref) and not condition.shape and condition.heads in (0, handle.heads)
        if isinstance(condition, Ref) and condition.dtype == "bool" and fits:
            handle.reset_when = scope.builder.capture(condition).id
        elif not isinstance(condition, Poison):
            scope.context.report(
                "NL203",
                "`reset when` needs a condition, one truth value per tick (and head)",
                clause.when.span,
                hint="compare something: `reset when x > 0`",
            )


def quantity(clause: tree.Quantity, scope: Scope, units: tuple[str, ...]) -> tuple[int, str] | None:
    """`every 16 tokens` -> (16, "token"), its unit one that has a meaning here."""
    count = ev.size_of(clause.count, scope, f"a number of {clause.unit}s")
    if clause.unit not in units:
        legal = " or ".join(f"`{u}s`" for u in units)
        scope.context.report(
            "NL405",
            f"time is counted in {legal} here, not in `{clause.unit}s`",
            clause.span,
            alternatives=tuple(f"`{u}s`" for u in units),
        )
        return None
    return None if isinstance(count, Poison) else (int(count), clause.unit)


def register(handle: Handle, scope: Scope, span: Span) -> None:
    key = (handle.owner, handle.path)
    earlier = scope.context.handles.get(key)
    if earlier is not None:
        scope.context.report(
            "NL110",
            f"two things are named `{handle.path}`",
            span,
            second=(earlier.span, "the first"),
            hint="give one of them another name: `memory NAME = …`, a new stream's name in front "
            "(`NAME = x |> …`), or `repeat … as NAME`",
        )
        return
    scope.context.handles[key] = handle
    handle.owner.records.append(handle)
