"""`learn` statements: tree -> Objective, its objective bodies and the bodies of its rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nldsl import apply, memories, rules, tree
from nldsl import evaluate as ev
from nldsl.builder import Builder
from nldsl.checks import arity
from nldsl.diagnostics import nearest
from nldsl.graph import Body, Objective, Period, Scalar
from nldsl.scope import Scope, Teaching, Window
from nldsl.values import POISON, Function, Handle, Poison, Ref, describe


@dataclass(eq=False)
class Deferred:
    """`learn *` stands here until every parameter of the program is known."""

    statement: tree.Learn
    scope: Scope
    period: Period


def learn(statement: tree.Learn, scope: Scope) -> None:
    if scope.handle is not None or scope.kind == "objective" or scope.definition.kind in ("net", "objective"):
        scope.context.report(
            "NL107", "a net learns nothing by itself: `learn` belongs where its memory is declared", statement.span
        )
        return
    handles = _targets(statement, scope)
    period = _period(statement, scope)
    kind = _kind(statement, handles or (), scope)
    fine = arity.clauses(statement, kind, period, scope.context.report)
    if handles is None or period is None or not fine:
        return
    if not statement.targets:
        deferred = Deferred(statement, scope.at(env=dict(scope.env)), period)
        scope.context.stars.append(deferred)
        scope.builder.records.append(deferred)
        return
    objective = build(statement, handles, kind, period, scope)
    if objective is not None:
        scope.builder.records.append(objective)
        scope.context.learned.append(objective)


def _targets(statement: tree.Learn, scope: Scope) -> tuple[Handle, ...] | None:
    handles: list[Handle] = []
    for name in statement.targets:
        value = scope.env.get(name.id)
        if isinstance(value, Handle) and value.form != "state":
            if value in handles:
                scope.context.report("NL102", f"`{name.id}` is named twice", name.span)
            handles.append(value)
        elif value is None:
            known = [n for n, v in scope.env.items() if isinstance(v, Handle) and v.form != "state"]
            scope.context.report(
                "NL101", f"there is no memory `{name.id}` here", name.span, hint=nearest(name.id, known)
            )
        elif not isinstance(value, Poison):
            scope.context.report("NL107", f"`learn` teaches memories, and `{name.id}` is {describe(value)}", name.span)
    whole = len(handles) == len(statement.targets) and not any(h.broken for h in handles)
    return tuple(handles) if whole else None


def _period(statement: tree.Learn, scope: Scope) -> Period | None:
    if statement.at is not None:
        names = scope.context.level_names
        if statement.at.id not in names:
            scope.context.report(
                "NL601",
                f"no level is called `{statement.at.id}`",
                statement.at.span,
                alternatives=tuple(f"`{n}`" for n in names),
                hint=nearest(statement.at.id, names) or f"declare it: `level {statement.at.id} = every 16 tokens`",
            )
            return None
        return names[statement.at.id]
    if statement.every is None:
        return None
    units = ("token", "step") if scope.unit == "token" else (scope.unit,)
    counted = memories.quantity(statement.every, scope, units)
    return Period(*counted) if counted else None


def _kind(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> str:
    if any(h.form == "attention" for h in handles):
        return "pairs"
    objective = statement.minimizing
    return "loss" if isinstance(objective, tree.Name) and objective.id == "loss" else "local"


def build(
    statement: tree.Learn, handles: tuple[Handle, ...], kind: str, period: Period, scope: Scope
) -> Objective | None:
    when = _condition(statement, handles, scope)
    if isinstance(when, Poison):
        return None
    learned = _blank(statement, handles, kind, period, scope, when)
    if learned is None or kind == "pairs":
        return _pairs(statement, handles[0], learned, scope) if learned else None
    if kind == "loss":
        if not all(memories.materialise(h, scope, statement.span) for h in handles):
            return None
    else:
        bodies = _objectives(statement, handles, scope)
        if bodies is None:
            return None
        learned = replace(learned, bodies=bodies)
    weights = _weights(statement, handles, scope)
    if weights is None:
        return None
    learned = replace(learned, weights=weights)
    window = Window(period.count, period.unit, when, handles[0].path if handles else "")
    parameters = [(h.path, leaf, h.heads) for h in handles for leaf in h.leaves.values()]
    return rules.attach(learned, statement, parameters, scope.at(window=window))


def _blank(
    statement: tree.Learn, handles: tuple[Handle, ...], kind: str, period: Period, scope: Scope, when: Ref | None
) -> Objective | None:
    """The learn with everything but its bodies."""
    unit = ("token",) if period.unit == "step" else (scope.unit,)
    counts = {}
    for name, clause in (
        ("hold", statement.hold and statement.hold.length),
        ("over", statement.over and statement.over.length),
        ("through", statement.through),
    ):
        counted = memories.quantity(clause, scope, unit) if clause is not None else (0, "")
        if counted is None:
            return None
        counts[name] = counted[0]
    times: Any = ev.size_of(statement.times, scope, "`times`") if statement.times is not None else 1
    over_weight: Any = 1
    if statement.over is not None and statement.over.weight is not None:
        over_weight = _over_weight(statement.over, counts["over"], handles, scope)
    if isinstance(times, Poison) or isinstance(over_weight, Poison):
        return None
    spans = tuple((c.id, c.span) for c in statement.clauses)
    return Objective(
        learn_id(handles, scope),
        kind,
        tuple(h.path for h in handles),
        every=period,
        hold=statement.hold.what if statement.hold else "",
        hold_length=counts["hold"],
        over=counts["over"],
        over_weight=over_weight,
        times=int(times),
        when=when.id if when else "",
        through=counts["through"],
        detached=statement.detached,
        level=statement.at.id if statement.at else "",
        spans=spans,
        span=statement.span,
    )


def learn_id(handles: tuple[Handle, ...], scope: Scope) -> str:
    names = ", ".join(h.path.rpartition(".")[2] for h in handles) or "*"
    base = ".".join((*scope.path, f"learn {names}"))
    taken = {o.id for o in scope.context.learned}
    numbers = (f"{base} ({n})" for n in range(2, len(taken) + 3))
    return base if base not in taken else next(i for i in numbers if i not in taken)


def _pairs(statement: tree.Learn, handle: Handle, learned: Objective, scope: Scope) -> Objective | None:
    assert statement.key is not None and statement.value is not None
    key, value = ev.operand_of(statement.key, scope), ev.operand_of(statement.value, scope)
    if isinstance(key, Poison) or isinstance(value, Poison):
        return None
    for expr, stream in ((statement.key, key), (statement.value, value)):
        if not isinstance(stream, Ref) or len(stream.shape) != 1 or stream.heads not in (0, handle.heads):
            heads = f" with {handle.heads} heads" if handle.heads else ""
            scope.context.report("NL301", f"attention{heads} keeps pairs of vectors", expr.span)
            return None
    assert isinstance(key, Ref) and isinstance(value, Ref)
    memories.pair_sizes(handle, key.shape[0], value.shape[0], scope, statement.span)
    if (handle.key_size, handle.value_size) != (key.shape[0], value.shape[0]):
        scope.context.report(
            "NL301",
            f"the pairs are [{key.shape[0]}] -> [{value.shape[0]}], and `{handle.path}` is used "
            f"as [{handle.key_size}] -> [{handle.value_size}]",
            statement.span,
            hint="write the `learn` above the read, so that its sizes are known",
        )
        return None
    return replace(learned, pair=(scope.builder.capture(key).id, scope.builder.capture(value).id))


# Objectives


def _objectives(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> tuple[Body, ...] | None:
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
    builder = Builder(f"objective of {of}", scope.context.findings, scope.context.budget, parent=scope.builder)
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
        answer = memories.read(handle, (key,), inner.at(via_self=True), statement.key.span)
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
    return builder.body((result,), keys_of(builder))


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


# Factors and conditions


def _condition(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> Ref | Poison | None:
    if statement.when is None:
        return None
    value = ev.operand_of(statement.when, scope)
    if isinstance(value, Poison):
        return POISON
    if not isinstance(value, Ref) or value.dtype != "bool":
        return scope.context.report(
            "NL203",
            "`when` needs a condition, one truth value per tick (and head)",
            statement.when.span,
            hint="compare something: `when norm > 1`",
        )
    heads = handles[0].heads if handles else 0
    value = rules.per_head(value, heads, scope, statement.when.span)
    if isinstance(value, Ref) and (value.shape or value.heads not in (0, heads)):
        return scope.context.report(
            "NL303", "`when` needs one truth value per tick, or one per head of the memory", statement.when.span
        )
    return scope.builder.capture(value) if isinstance(value, Ref) else value


def _weights(statement: tree.Learn, handles: tuple[Handle, ...], scope: Scope) -> tuple[str | Scalar, ...] | None:
    """`weighted e`: one factor for all, or a list with one per memory."""
    if statement.weighted is None:
        return ()
    given = statement.weighted
    listed = given.items if isinstance(given, tree.List) else (given,) * len(handles)
    if len(listed) != len(handles):
        scope.context.report("NL201", f"`weighted` has {len(listed)} factors for {len(handles)} memories", given.span)
        return None
    factors: list[str | Scalar] = []
    for expr, handle in zip(listed, handles, strict=True):
        value = ev.operand_of(expr, scope)
        if isinstance(value, Ref):
            value = rules.rate(
                value, [(handle.path, leaf, handle.heads) for leaf in handle.leaves.values()], scope, expr.span
            )
        if isinstance(value, Poison):
            return None
        factors.append(scope.builder.capture(value).id if isinstance(value, Ref) else value)
    return tuple(factors)


def _over_weight(clause: tree.Over, count: int, handles: tuple[Handle, ...], scope: Scope) -> str | Scalar | Poison:
    assert clause.weight is not None
    value = ev.operand_of(clause.weight, scope)
    if isinstance(value, Ref):
        heads = handles[0].heads
        if value.shape != (count,):
            value = rules.per_head(value, heads, scope, clause.weight.span)
        if isinstance(value, Ref) and (value.shape not in ((), (count,)) or value.heads not in (0, heads)):
            return scope.context.report(
                "NL306", f"`over last {count}` takes one weight per pair, or {count} by age", clause.weight.span
            )
    if isinstance(value, Poison):
        return POISON
    return scope.builder.capture(value).id if isinstance(value, Ref) else value
