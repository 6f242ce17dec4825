"""Objectives: what a `learn` minimises, as bodies with the keys of their matrices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nldsl.graph import Body
from nldsl.instantiate import apply, reading
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.builder import Builder
from nldsl.instantiate.scope import Scope, Teaching
from nldsl.instantiate.values import (
    Function,
    Handle,
    Poison,
    Ref,
    describe,
)
from nldsl.syntax import tree


def objective_bodies(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> tuple[Body, ...] | None:
    """One copy of the objective per memory where it says `self`, else one joint objective."""
    assert statement.minimizing is not None
    own = statement.key is not None or mentions(statement.minimizing, "self")
    named = {n.id for n in statement.targets}
    if not own and not any(mentions(statement.minimizing, n) for n in named):
        scope.context.report(
            "NL205",
            "this objective reads none of the memories it teaches",
            statement.minimizing.span,
            hint="write `learn M : key -> value minimizing f`, or use `self(…)` or the memory's name",
        )
        return None
    bodies = []
    for handle in handles if own else (None,):
        body = _objective(statement, handle, handles, scope)
        if body is None:
            return None
        bodies.append(body)
    return tuple(bodies)


def _objective(statement: tree.Learn, handle: Handle | None, handles: tuple[Handle, ...], scope: Scope) -> Body | None:
    of = handle.path if handle else ", ".join(h.path for h in handles)
    builder = Builder(f"objective of {of}", scope.context.report, scope.context.budget, parent=scope.builder)
    teaching = Teaching(handle, handles)
    inner = scope.at(builder=builder, kind="objective", teaching=teaching)
    as_data = inner.at(teaching=replace(teaching, data=True))
    assert statement.minimizing is not None
    value: Any
    if statement.key is not None and statement.value is not None and handle is not None:
        objective = ev.evaluate(statement.minimizing, inner)
        key = ev.operand_of(statement.key, as_data)
        target = ev.operand_of(statement.value, as_data)
        if any(isinstance(v, Poison) for v in (objective, key, target)):
            return None
        if not isinstance(objective, Function) or objective.definition.kind != "objective":
            scope.context.report(
                "NL107",
                f"`minimizing` needs an objective here, not {describe(objective)}",
                statement.minimizing.span,
                hint="for example `minimizing l2`; without `: key -> value` it may be any expression",
            )
            return None
        answer = reading.read(handle, (key,), inner.at(via_self=True), statement.key.span)
        if isinstance(answer, Poison):
            return None
        assert isinstance(answer, Ref)
        value = apply.apply(objective, (answer, target), inner, statement.minimizing.span)
    else:
        value = ev.evaluate(statement.minimizing, inner)
    if isinstance(value, Function):
        scope.context.report(
            "NL205",
            f"the objective `{value.name}` needs its streams",
            statement.minimizing.span,
            hint=f"write `learn M : key -> value minimizing {value.name}`",
        )
        return None
    value = ev.as_operand(value, inner, statement.minimizing)
    if isinstance(value, Poison):
        return None
    if not isinstance(value, Ref) or value.shape or value.dtype != "real":
        shown = f"has the shape {list(map(int, value.shape))}" if isinstance(value, Ref) else "is a fixed number"
        scope.context.report(
            "NL301",
            f"an objective is one number per tick (and head), and this {shown}",
            statement.minimizing.span,
            hint="`sum(…)` it",
        )
        return None
    result = builder.capture(value).id
    if not _reads_itself(builder, result):
        scope.context.report(
            "NL205",
            "this objective does not depend on what it teaches",
            statement.minimizing.span,
            hint="it must use the memory's answer: `self(…)`, or the first stream of an objective",
        )
        return None
    return builder.body((result,), keys_of(builder))


def _reads_itself(builder: Builder, result: str) -> bool:
    """Whether the result depends on a weight that carries the inner gradient."""
    todo, seen = [result], set()
    while todo:
        stream = builder.index.get(todo.pop())
        if stream is None or stream.id in seen:
            continue
        if stream.op == "weight" and stream.mode == "self":
            return True
        seen.add(stream.id)
        todo += [a for a in stream.args if isinstance(a, str)]
    return False


def keys_of(builder: Builder) -> tuple[tuple[str, str, str], ...]:
    """Each matrix that the pass uses once, as `x @ w`, and the stream x: its key."""
    reads: dict[tuple[str, str], list[str]] = {}
    for stream in builder.index.values():
        if stream.op == "weight" and stream.mode == "self":
            reads.setdefault((stream.memory, stream.leaf), []).append(stream.id)
    found = []
    for (memory, leaf), ids in reads.items():
        users = [s for s in builder.index.values() for a in s.args if a in ids]
        if len(ids) == 1 and len(users) == 1 and users[0].op == "matmul" and users[0].args[1] == ids[0]:
            key = users[0].args[0]
            if isinstance(key, str) and key not in ids and _rank(builder, key) == 1:
                found.append((memory, leaf, key))
    return tuple(found)


def _rank(builder: Builder, stream: str) -> int:
    port = next((p for p in builder.inputs if p.id == stream), None)
    return len(port.shape if port else builder.index[stream].shape)


def mentions(expr: Any, name: str) -> bool:
    match expr:
        case tree.Name():
            return expr.id == name
        case tree.Unary():
            return mentions(expr.operand, name)
        case tree.Binary():
            return mentions(expr.left, name) or mentions(expr.right, name)
        case tree.Pipe():
            return mentions(expr.value, name) or mentions(expr.function, name)
        case tree.Call():
            return mentions(expr.function, name) or any(mentions(a.value, name) for a in expr.arguments)
        case tree.List():
            return any(mentions(i, name) for i in expr.items)
        case tree.Index():
            return mentions(expr.value, name)
    return False
