"""Memories, states and nets applied in place: declaring them, finding their leaves, reading them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nldsl import apply, rules, tree
from nldsl import evaluate as ev
from nldsl.builder import Builder
from nldsl.diagnostics import nearest
from nldsl.graph import Leaf, Scalar, Stream
from nldsl.scope import Scope, snake
from nldsl.spans import Span
from nldsl.values import POISON, AttentionForm, Builtin, Composition, Function, Handle, Poison, Ref, Value, describe

Operand = Ref | Scalar | Poison


# Declaring


def declare(statement: tree.MemoryDecl, scope: Scope) -> None:
    """`memory K[heads], V[heads] = net [from …] [reset …]`."""
    if scope.handle is not None or scope.kind == "objective":
        scope.context.report("NL107", "a net holds no memory: its weights are `param`s", statement.span)
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
        if statement.start is not None:
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


def reset(handle: Handle, clause: tree.Reset | None, scope: Scope) -> None:
    if clause is None:
        return
    if clause.every is not None:
        count = quantity(clause.every, scope, (scope.unit,))
        handle.reset_every = count[0] if count else 0
    if clause.when is not None:
        condition = ev.operand_of(clause.when, scope)
        if isinstance(condition, Ref):
            condition = rules.per_head(condition, handle.heads, scope, clause.when.span)
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


# Reading


def read(handle: Handle, streams: tuple[Operand, ...], scope: Scope, span: Span) -> Value:
    """`M(x)`: the memory's nets at the weights this place sees."""
    if handle.broken:
        return POISON
    if handle.form == "state":
        return scope.context.report("NL107", f"`{handle.path}` is a state, read by its name alone", span)
    if handle.form == "attention":
        return _recall(handle, streams, scope, span)
    result: Value = POISON
    used: dict[str, int] = {}
    for part in handle.parts:
        name = snake(part.name)
        used[name] = used.get(name, 0) + 1
        numbered = name if used[name] == 1 else f"{name}_{used[name]}"
        leaf_path = () if len(handle.parts) == 1 else (numbered,)
        result = apply.apply_body(part, streams, scope, span, handle=handle, leaf_path=leaf_path)
        if not isinstance(result, Ref):
            return POISON
        streams = (result,)
    return result


def _recall(handle: Handle, streams: tuple[Operand, ...], scope: Scope, span: Span) -> Value:
    (query,) = streams if len(streams) == 1 else (None,)
    if not isinstance(query, Ref) or len(query.shape) != 1 or query.heads not in (0, handle.heads):
        heads = f" of {handle.heads} heads" if handle.heads else ""
        return scope.context.report("NL301", f"attention{heads} answers a query [d], one vector per head", span)
    if scope.kind != "tick":
        return scope.context.report("NL107", "attention can't stand inside an objective or an optimizer", span)
    pair_sizes(handle, query.shape[0], handle.value_size or query.shape[0], scope, span)
    if not handle.key_size == query.shape[0]:
        return scope.context.report(
            "NL301", f"the query has {query.shape[0]} entries, the keys {handle.key_size}", span
        )
    ref = Stream(
        "",
        "recall",
        (scope.builder.capture(query).id,),
        (),
        (handle.value_size,),
        handle.heads,
        memory=handle.path,
        lag=query.lag,
        span=span,
    )
    return scope.builder.add(ref)


def pair_sizes(handle: Handle, key: int, value: int, scope: Scope, span: Span) -> None:
    """Attention learns the sizes of its pairs from the first statement that shows them."""
    if handle.key_size:
        return
    handle.key_size, handle.value_size = int(key), int(value)
    if handle.persistent:
        for name, size in (("keys", key), ("values", value)):
            scope.context.budget.leaf(handle.persistent * size, span)
            handle.leaves[name] = Leaf(name, (handle.persistent, int(size)), ("normal", 1), handle.span)


def apply_in_place(function: Function, streams: tuple[Operand, ...], scope: Scope, span: Span) -> Value:
    """`x |> linear(dim)`: a net with weights of its own, named by where it stands."""
    element = scope.element(snake(function.name))
    if scope.handle is not None:
        return apply.apply_body(function, streams, scope, span, leaf_path=scope.leaf_path + element)
    outside = scope.builder
    while scope.kind == "objective" and outside.parent is not None:
        outside = outside.parent
    handle = Handle(".".join(scope.path + element), "weights", 0, (function,), span, declared=False, owner=outside)
    place = len(outside.records)
    result = apply.apply_body(function, streams, scope, span, handle=handle, leaf_path=())
    if handle.leaves:
        register(handle, scope, span)
        if outside.records and outside.records[-1] is handle:
            outside.records.insert(place, outside.records.pop())
    return result


def declare_param(statement: tree.ParamDecl, scope: Scope) -> None:
    """`param up: [d, 4 * d] = normal(d ^ -0.5)` in a net."""
    handle = scope.handle
    if handle is None:
        scope.context.report(
            "NL107", "`param` belongs in a net; a block keeps its weights in a `memory`", statement.span
        )
        return
    name = ".".join((*scope.leaf_path, statement.name + scope.suffix))
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
    scope.env[statement.name] = ev.emit_weight(handle, name, mode(handle, scope), scope, statement.span)


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


def mode(handle: Handle, scope: Scope) -> str:
    """What a read of this memory sees here: see `graph.Stream`."""
    teaching = scope.teaching
    if teaching is not None and handle in teaching.learned and (scope.via_self or teaching.handle is None):
        return "anchor" if teaching.data else "self"
    return "running" if scope.running is handle else "seen"


def weight_of(handle: Handle, scope: Scope, span: Span) -> Ref | Poison:
    """A memory's bare name: its one weight, or a state's value."""
    if handle.broken or not materialise(handle, scope, span):
        return POISON
    if scope.running is handle and scope.running_leaf:
        return ev.emit_weight(handle, scope.running_leaf, "running", scope, span)
    name = handle.path.rpartition(".")[2]
    if handle.form == "attention" or len(handle.leaves) != 1:
        what = "attention" if handle.form == "attention" else f"made of {len(handle.leaves)} weights"
        return scope.context.report(
            "NL107", f"`{name}` is {what}, so its bare name is no matrix", span, hint=f"read it: `{name}(x)`"
        )
    return ev.emit_weight(handle, next(iter(handle.leaves)), mode(handle, scope), scope, span)


def materialise(handle: Handle, scope: Scope, span: Span) -> bool:
    """Make sure the leaves are known, from the input size the net declares where it has not been applied yet."""
    if handle.leaves or handle.form != "weights" or not handle.parts:
        return not handle.broken
    part = handle.parts[0]
    env = apply.environment(part, scope, span)
    port = part.definition.ports[0].shape if part.definition.ports else None
    if env is None or not isinstance(port, tree.List):
        return False
    inner = scope.at(module=part.module, env=env)
    if any(isinstance(i, tree.Name) and i.id not in env for i in port.items):
        name = handle.path.rpartition(".")[2]
        scope.context.report(
            "NL108",
            f"`{name}` has no size yet: nothing has been read from it above",
            span,
            hint=f"move this below the first `{name}(…)`",
        )
        return False
    shape = ev.shape_of(port, inner)
    if isinstance(shape, Poison):
        return False
    scratch = Builder("scratch", scope.context.findings, scope.context.budget)
    stream = scratch.port("x", shape)
    read(handle, (stream,), scope.at(builder=scratch, kind="tick", teaching=None, running=None), span)
    return bool(handle.leaves)


def start_bodies(handle: Handle) -> None:
    """`from Other`, `from f(start)`: one body per leaf, computing where it starts."""
    expr, scope = handle.start_expr, handle.start_env
    if handle.start != "body" or expr is None:
        return
    bodies = []
    for leaf in handle.leaves.values():
        builder = Builder(f"start of {handle.path}.{leaf.name}", scope.context.findings, scope.context.budget)
        env = dict(scope.env)
        env["start"] = builder.port("start", leaf.shape, handle.heads)
        inner = scope.at(builder=builder, env=env, prefix="", suffix="")
        value = ev.evaluate(expr, inner)
        if isinstance(value, Handle):
            value = _other(handle, value, leaf, inner, expr.span)
        if isinstance(value, Poison):
            return
        if builder.captured or not isinstance(value, Ref):
            scope.context.report(
                "NL107",
                "a memory starts from `zeros`, from another memory, or from an expression of `start`",
                expr.span,
            )
            return
        if tuple(value.shape) != tuple(leaf.shape) or value.heads not in (0, handle.heads):
            scope.context.report("NL302", f"the start of `{handle.path}.{leaf.name}` has not its shape", expr.span)
            return
        if not any(value.id == s.id or value.id in s.args for s in builder.index.values()) and value.id == "start":
            handle.start = "learned"
            return
        used = any("start" in s.args for s in builder.index.values())
        builder.inputs = builder.inputs if used else []
        bodies.append(builder.body((value.id,)))
    handle.starts = tuple(bodies)


def _other(handle: Handle, other: Handle, leaf: Leaf, scope: Scope, span: Span) -> Value:
    if not materialise(other, scope, span):
        return POISON
    same = other.leaves.get(leaf.name)
    if same is None or other.heads != handle.heads:
        return scope.context.report(
            "NL302",
            f"`{handle.path}` can't start from `{other.path}`: their weights differ",
            span,
            second=(other.span, "declared here"),
        )
    ref = ev.emit_weight(replace_owner(other, scope.builder), leaf.name, "running", scope, span)
    return ref


def replace_owner(handle: Handle, builder: Builder) -> Handle:
    return replace(handle, owner=builder)
