"""Optimizers and retentions as a learn uses them: one body per shape of weight, the numbers folded in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nldsl.graph import Leaf, Objective, Rule, Shape
from nldsl.instantiate import binding, factors, objectives, starts, statements
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.builder import Builder
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    Function,
    Poison,
    Ref,
    Value,
    describe,
)
from nldsl.shape_rules import show_shape
from nldsl.syntax import tree

ROLES = {"optimizer": ("g", "w", "key"), "retention": ("w", "u", "key", "start")}


CLAUSE = {"optimizer": "by", "retention": "retaining"}


Target = tuple[str, Leaf, int]  # memory, leaf, heads


@dataclass(frozen=True)
class Scheduled:
    """An argument that mentions `tick`: on a clock slower than the body's, it counts the learn's own writes, so it is
    computed inside the rule."""

    expr: tree.Expr


def attach(learned: Objective, statement: tree.Learn, targets: Sequence[Target], scope: Scope) -> Objective | None:
    """The learn with its optimizer and retention."""
    keys = {(m, leaf): _key_size(body, key) for body in learned.bodies for m, leaf, key in body.keys}
    optimizer = _rule("optimizer", statement.by, learned, targets, keys, scope)
    retention: Rule | None = Rule("", ())
    if statement.retaining is not None:
        retention = _rule("retention", statement.retaining, learned, targets, keys, scope)
    return replace(learned, optimizer=optimizer, retention=retention) if optimizer and retention else None


def _key_size(body: Any, key: str) -> Shape:
    port = next((p for p in body.inputs if p.id == key), None)
    record = port or next(r for r in body.records if getattr(r, "id", "") == key)
    return record.shape  # type: ignore[no-any-return]


def _rule(
    kind: str,
    expr: tree.Expr | None,
    learned: Objective,
    targets: Sequence[Target],
    keys: dict[Any, Shape],
    scope: Scope,
) -> Rule | None:
    assert expr is not None
    function = _function(kind, expr, scope, learned)
    if function is None:
        return None
    env = binding.environment(function, scope.at(window=scope.window), expr.span)
    if env is None:
        return None
    args: list[str] = []
    for name, value in env.items():
        if isinstance(value, Ref):
            fitted = factors.rate(value, targets, scope, expr.span, f"`{name}` of `{function.name}`")
            if isinstance(fitted, Poison):
                return None
            env[name] = fitted
            args.append(scope.builder.capture(fitted).id)
    bodies = []
    for memory, leaf, _heads in targets:
        body = _body(kind, function, env, memory, leaf, learned, keys, scope, expr)
        if body is None:
            return None
        bodies.append((memory, leaf.name, body))
    return Rule(function.name, tuple(bodies), tuple(args), expr.span)


def _function(kind: str, expr: tree.Expr, scope: Scope, learned: Objective) -> Function | None:
    callee = expr.function if isinstance(expr, tree.Call) else expr
    value = ev.evaluate(callee, scope)
    if isinstance(value, Poison):
        return None
    if not isinstance(value, Function) or value.definition.kind != kind:
        article = "an" if kind == "optimizer" else "a"
        scope.context.report("NL107", f"`{CLAUSE[kind]}` needs {article} {kind}, not {describe(value)}", callee.span)
        return None
    if value.complete or not isinstance(expr, tree.Call):
        return value
    slow = learned.every.unit == "step" or learned.every.count > 1
    later = {i for i, a in enumerate(expr.arguments) if slow and objectives.mentions(a.value, "tick")}
    names = [p.name for p in value.definition.parameters]
    plain = tuple(
        tree.Argument(a.name or (names[i] if i < len(names) else None), a.value, span=a.span)
        for i, a in enumerate(expr.arguments)
        if i not in later
    )
    bound = binding.bind(value, plain, scope, expr.span)
    if isinstance(bound, Poison):
        return None
    scheduled: dict[str, Any] = {}
    for i in later:
        name = expr.arguments[i].name or (names[i] if i < len(names) else "")
        if name not in names or name in bound.bound:
            scope.context.report("NL202", f"`{value.name}` takes no such argument", expr.arguments[i].span)
            return None
        scheduled[name] = Scheduled(expr.arguments[i].value)
    return replace(bound, bound=bound.bound | scheduled)


def _body(
    kind: str,
    function: Function,
    env: dict[str, Value],
    memory: str,
    leaf: Leaf,
    learned: Objective,
    keys: dict[Any, Shape],
    scope: Scope,
    expr: tree.Expr,
) -> str | None:
    """The name of the rule's body for weights of this shape, built once."""
    definition, context = function.definition, scope.context
    key = keys.get((memory, leaf.name))
    uses_key = any(p.name == "key" for p in definition.ports)
    if uses_key and not _key_given(key, function, memory, leaf, learned, scope, expr):
        return None
    scheduled = any(isinstance(v, Scheduled) for v in env.values())
    shown = tuple((n, (v.shape, v.dtype) if isinstance(v, Ref) else repr(v)) for n, v in env.items())
    place = (id(scope.builder), learned.id) if scheduled else ()
    memo = (kind, id(definition), leaf.shape, shown, key if uses_key else None, place)
    if memo in context.memo:
        return context.memo[memo]  # type: ignore[no-any-return]
    name = f"{function.name}.{sum(1 for n in context.bodies if n.rpartition('.')[0] == function.name) + 1}"
    parent = scope.builder if scheduled else None
    builder = Builder(name, context.report, context.budget, parent=parent)
    context.bodies[name] = None
    inner_context = replace(context, handles={}, stars=[], learned=[])
    inside = scope.at(context=inner_context).deeper(
        definition,
        expr.span,
        module=function.module,
        builder=builder,
        env={},
        path=(),
        unit="update",
        kind="rule",
        handle=None,
        teaching=None,
        running=None,
        window=None,
        tick=None,
        via_self=False,
    )
    context.sites.append(expr.span)
    result = _run(kind, function, env, leaf, key, scope, inside, builder)
    context.sites.pop()
    context.memo[memo] = None
    if result is None:
        return None
    fits = factors.fits(result.shape, leaf.shape)
    if not fits:
        context.report(
            "NL306",
            f"`{function.name}` gives {show_shape(result.shape)} for `{memory}.{leaf.name}`, which is "
            f"{show_shape(leaf.shape)}",
            expr.span,
        )
        return None
    for handle in inner_context.handles.values():
        handle.owner = builder
        starts.start_bodies(handle)
    context.bodies[name] = builder.body((result.id,))
    context.memo[memo] = name
    return name


def _run(
    kind: str,
    function: Function,
    env: dict[str, Value],
    leaf: Leaf,
    key: Shape | None,
    outer: Scope,
    inside: Scope,
    builder: Builder,
) -> Ref | None:
    definition = function.definition
    number = 0
    for name, value in env.items():
        if isinstance(value, Ref):
            shape = value.shape
            inside.env[name] = builder.port(f"arg{number}", shape, 0, value.dtype)
            number += 1
        elif isinstance(value, Scheduled):
            tick = builder.emit("tick", (), value.expr.span)
            assert isinstance(tick, Ref)
            inside.env[name] = ev.operand_of(
                value.expr, outer.at(context=inside.context, builder=builder, kind="rule", tick=tick)
            )
        else:
            inside.env[name] = value
    for port in definition.ports:
        if port.name not in ROLES[kind]:
            inside.context.report(
                "NL107",
                f"{'an' if kind == 'optimizer' else 'a'} {kind} is over "
                f"{', '.join(f'`{r}`' for r in ROLES[kind])}; there is no `{port.name}`",
                port.span,
            )
            return None
        shape = (key or ()) if port.name == "key" else leaf.shape
        stream = builder.port(port.name, shape)
        if not binding.bind_port(port, stream, inside, port.span):
            return None
    results = statements.run(definition.body, inside)
    if not results:
        return None
    place = binding.returned(definition)
    if len(results) > 1 or isinstance(results[0], list):
        one = "one: the update" if kind == "optimizer" else "one: the new weight"
        what = f"{'an' if kind == 'optimizer' else 'a'} {kind}"
        inside.context.report("NL206", f"`{function.name}` gives several results, and {what} gives {one}", place)
        return None
    value = results[0]
    if isinstance(value, bool) or (isinstance(value, Ref) and value.dtype == "bool"):
        inside.context.report("NL107", f"`{function.name}` gives a truth value, not a number", place)
        return None
    if isinstance(value, int | float) or hasattr(value, "denominator"):
        zeros = builder.emit("zeros", (), definition.span, shape=leaf.shape)
        value = builder.emit("add", (zeros, value), definition.span)  # type: ignore[arg-type]
    return value if isinstance(value, Ref) else None


def _key_given(
    key: Shape | None, function: Function, memory: str, leaf: Leaf, learned: Objective, scope: Scope, expr: tree.Expr
) -> bool:
    port = next(p for p in function.definition.ports if p.name == "key")
    why, hint = "", ""
    if learned.kind == "loss":
        why = "a learn from `loss` sees many keys per write"
    elif learned.every.count > 1 or learned.every.unit == "step":
        why = f"a learn {learned.every} sees many keys per write"
        hint = "write `every token`, with `hold … for N tokens` to work in chunks"
    elif learned.over:
        why = "`over last` takes the gradient at many keys"
    elif key is None:
        why = f"`{memory}.{leaf.name}` is not used exactly once as `x @ {leaf.name}` in this objective"
        hint = "a rule with a key is for matrices; write a bias as `ones(1) @ b`"
    if why:
        scope.context.report(
            "NL304",
            f"`{function.name}` needs the key of its weight, and {why}",
            expr.span,
            second=(port.span, "asked for here"),
            hint=hint,
        )
    return not why
