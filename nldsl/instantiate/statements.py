"""Statements: runs a body from top to bottom, unrolling `repeat`, `for` and `if`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nldsl.graph import Period, Stream
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate import learning, memories, reading
from nldsl.instantiate.scope import Scope, Window
from nldsl.instantiate.values import POISON, Handle, Poison, Ref, Value, describe
from nldsl.naming import suffix_of
from nldsl.shape_rules import ShapeError, broadcast, plural, show_shape
from nldsl.syntax import tree


def run(body: Iterable[tree.Statement], scope: Scope) -> list[Value] | None:
    """What the body returns; None after reporting what is wrong."""
    results = block(body, scope)
    if results is None:
        name = scope.definition.name
        scope.context.report("NL206", f"`{name.id}` returns nothing", name.span, hint="end it with `return …`")
    return None if results is None or any(isinstance(r, Poison) for r in results) else results


def block(body: Iterable[tree.Statement], scope: Scope) -> list[Value] | None:
    results: list[Value] | None = None
    for statement in body:
        if results is not None:
            if not any(isinstance(r, Poison) for r in results):
                hint = "move `return` to the end"
                scope.context.report("NL206", "nothing runs after `return`", statement.span, hint=hint)
            break
        results = _statement(statement, scope.at(prefix="", used={}))
    return results


def _statement(statement: tree.Statement, scope: Scope) -> list[Value] | None:
    match statement:
        case tree.Assign():
            _assign(statement, scope)
        case tree.MemoryDecl():
            memories.declare(statement, scope)
        case tree.StateDecl():
            memories.declare_state(statement, scope)
        case tree.ParamDecl():
            memories.declare_param(statement, scope)
        case tree.Write():
            _write(statement, scope)
        case tree.Learn():
            learning.learn(statement, scope)
        case tree.LevelDecl():
            _level(statement, scope)
        case tree.Repeat():
            return _repeat(statement, scope)
        case tree.For():
            return _for(statement, scope)
        case tree.If():
            return _if(statement, scope)
        case tree.Return():
            return [_returned(value, scope) for value in statement.values]
    return None


def _returned(expr: tree.Expr, scope: Scope) -> Value:
    value = ev.evaluate(expr, scope)
    return value if isinstance(value, list) else ev.as_operand(value, scope, expr)


def _assign(statement: tree.Assign, scope: Scope) -> None:
    names = [n.id for n in statement.names]
    if names == ["loss"]:
        _loss(statement, scope)
        return
    ports = {p.name for p in scope.definition.ports}
    first = names[0]
    fresh = first not in ports and scope.binders.setdefault(first, id(statement)) == id(statement)
    value = ev.evaluate(statement.value, scope.at(prefix=first if fresh else ""))
    values: list[Any] = [value] if len(names) == 1 else value if isinstance(value, list) else [value]
    if isinstance(value, Poison):
        values = [POISON] * len(names)
    elif len(values) != len(names):
        scope.context.report(
            "NL206", f"{plural(len(names), 'name')} for {plural(len(values), 'result')}", statement.span
        )
        values = [POISON] * len(names)
    for name, item in zip(statement.names, values, strict=True):
        if name.id in ("self", "loss", "tick"):
            scope.context.report("NL102", f"`{name.id}` has a meaning of its own and can't be bound", name.span)
        elif isinstance(item, Handle):
            scope.env[name.id] = ev.as_operand(item, scope, statement.value)
        elif isinstance(scope.env.get(name.id), Handle):
            scope.context.report(
                "NL102",
                f"`{name.id}` is a memory; a stream needs another name",
                name.span,
                second=(scope.env[name.id].span, "declared here"),  # type: ignore[union-attr]
                hint=f"`{name.id} <- …` writes the memory",
            )
            scope.env[name.id] = POISON
        else:
            scope.env[name.id] = item
            _remember(item, name.id, scope)


def _remember(value: Any, name: str, scope: Scope) -> None:
    """Give the stream its name in the graph, the first it gets."""
    if isinstance(value, Ref) and value.owner is scope.builder:
        stream = scope.builder.index.get(value.id)
        if stream is not None and not stream.name:
            scope.builder.rename(stream, ".".join((*scope.path, name + scope.suffix)))


def _loss(statement: tree.Assign, scope: Scope) -> None:
    context, span = scope.context, statement.names[0].span
    if scope.definition.kind != "model" or scope.depth:
        context.report(
            "NL111",
            "only a model has a `loss`",
            span,
            hint="return what the loss needs, and assign `loss` in the model",
        )
        return
    if context.loss_span is not None:
        context.report(
            "NL111",
            "a model has one `loss`",
            span,
            second=(context.loss_span, "the first"),
            hint="add the terms in one assignment",
        )
        return
    context.loss_span = span
    value = ev.operand_of(statement.value, scope.at(prefix="loss"))
    if isinstance(value, Ref) and (value.shape or value.heads or value.dtype != "real"):
        heads = f" and {value.heads} heads" if value.heads else ""
        context.report(
            "NL301",
            f"`loss` is one number per tick, and this has the shape {show_shape(value.shape)}{heads}",
            statement.value.span,
            hint="`sum(…)` or `mean(…)` it",
        )
    elif isinstance(value, Ref):
        context.loss = value
        _remember(value, "loss", scope)
    elif not isinstance(value, Poison):
        context.report("NL111", "`loss` is a number that never changes", statement.value.span)


def _write(statement: tree.Write, scope: Scope) -> None:
    """`M <- value`, leaf by leaf, on the running state."""
    target = scope.env.get(statement.target.id)
    if isinstance(target, Poison) or (isinstance(target, Handle) and target.broken):
        return
    if not isinstance(target, Handle) or target.form == "attention":
        found = describe(target) if target is not None else "unknown"
        scope.context.report(
            "NL107",
            f"`<-` writes a memory or a state, and `{statement.target.id}` is {found}",
            statement.target.span,
            hint="a stream is bound with `=`; for `a < -b` leave a space",
        )
        return
    period = (1, scope.unit)
    if statement.every is not None:
        counted = memories.quantity(statement.every, scope, (scope.unit,))
        if counted is None:
            return
        period = counted
    if not reading.materialise(target, scope, statement.target.span):
        return
    window = Window(period[0], period[1], serves=target.path)
    for leaf in list(target.leaves.values()):
        inner = scope.at(running=target, running_leaf=leaf.name, window=window)
        value = ev.operand_of(statement.value, inner)
        if isinstance(value, Poison):
            return
        if isinstance(value, Ref):
            try:
                fits = broadcast(value.shape, leaf.shape) == leaf.shape and value.heads in (0, target.heads)
            except ShapeError:
                fits = False
            if not fits:
                heads = f" and {value.heads} heads" if value.heads else ""
                scope.context.report(
                    "NL302",
                    f"`{statement.target.id}` is {show_shape(leaf.shape)}, and what is written "
                    f"is {show_shape(value.shape)}{heads}",
                    statement.value.span,
                    second=(leaf.span, "declared here"),
                )
                return
            value = scope.builder.capture(value)
        args = (value.id if isinstance(value, Ref) else value,)
        lag = value.lag if isinstance(value, Ref) else 0
        scope.builder.add(
            Stream(
                "",
                "assign",
                args,
                (),
                leaf.shape,
                target.heads,
                memory=target.path,
                leaf=leaf.name,
                every=period[0],
                lag=lag,
                span=statement.span,
            )
        )


def _level(statement: tree.LevelDecl, scope: Scope) -> None:
    counted = memories.quantity(statement.every, scope, ("token", "step") if scope.unit == "token" else (scope.unit,))
    if counted is None:
        return
    context, period = scope.context, Period(*counted)
    if context.level_names.setdefault(statement.name, period) != period:
        context.report(
            "NL601",
            f"`{statement.name}` already names the level {context.level_names[statement.name]}",
            statement.span,
            second=(context.level_spans[statement.name], "named here"),
        )
    context.level_spans.setdefault(statement.name, statement.span)


def _repeat(statement: tree.Repeat, scope: Scope) -> list[Value] | None:
    count = ev.size_of(statement.count, scope, "the number of repeats", least=0)
    if isinstance(count, Poison):
        return None
    rounds = min(int(count), scope.context.rounds or int(count))
    name = (statement.name or "layers") + scope.suffix
    scope.context.budget.room(count, statement.count.span)
    results = None
    for i in range(rounds):
        scope.context.budget.record(statement.span)
        results = block(statement.body, scope.at(path=(*scope.path, name, str(i)), suffix=""))
        if results is not None:
            scope.context.report("NL206", "`return` can't stand in a `repeat`", statement.span)
            return [POISON]
    return None


def _for(statement: tree.For, scope: Scope) -> list[Value] | None:
    values = ev.evaluate(statement.values, scope)
    if isinstance(values, Poison):
        return None
    if not isinstance(values, list):
        scope.context.report(
            "NL203",
            f"`for` runs over a list, not over {describe(values)}",
            statement.values.span,
            hint="for example `for p in [16, 64]`; `repeat 4 { … }` makes copies",
        )
        return None
    if isinstance(scope.env.get(statement.variable.id), Handle):
        scope.context.report(
            "NL102",
            f"`{statement.variable.id}` is a memory; the loop's variable needs another name",
            statement.variable.span,
        )
        return None
    for value in values:
        scope.context.budget.record(statement.span)
        scope.env[statement.variable.id] = value
        suffix = scope.suffix + suffix_of(value)
        if block(statement.body, scope.at(suffix=suffix)) is not None:
            scope.context.report("NL206", "`return` can't stand in a `for`", statement.span)
            return [POISON]
    return None


def _if(statement: tree.If, scope: Scope) -> list[Value] | None:
    condition = ev.evaluate(statement.condition, scope)
    if isinstance(condition, Poison):
        return None
    if not isinstance(condition, bool):
        scope.context.report(
            "NL203",
            f"`if` needs a condition known before the program runs, not {describe(condition)}",
            statement.condition.span,
            hint="`where(c, a, b)` chooses tick by tick",
        )
        return None
    return block(statement.then if condition else statement.otherwise, scope)
