"""`learn` statements: tree -> Objective."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nldsl.checks import arity
from nldsl.diagnostics import nearest
from nldsl.graph import Objective, Period
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate import factors, memories, objectives, reading, rules
from nldsl.instantiate.scope import Scope, Window
from nldsl.instantiate.values import (
    Handle,
    Poison,
    Ref,
    describe,
)
from nldsl.syntax import tree


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
    if handles is None:
        return
    kind = _kind(statement, handles, scope)
    if kind == "loss" and scope.unit != "token" and statement.minimizing is not None:
        message = "an optimizer's memory can't learn from `loss`: give it an objective of its own"
        scope.context.report("NL205", message, statement.minimizing.span)
        return
    fine = arity.clauses(statement, kind, period, scope.context.report)
    if period is None or not fine:
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
    if not _restarts_together(statement, handles, period, scope):
        return None
    when = factors.condition(statement, handles, scope)
    if isinstance(when, Poison):
        return None
    learned = _blank(statement, handles, kind, period, scope, when)
    if learned is None or kind == "pairs":
        return _pairs(statement, handles[0], learned, scope) if learned else None
    if kind == "loss":
        if not all(reading.materialise(h, scope, statement.span) for h in handles):
            return None
    else:
        bodies = objectives.objective_bodies(statement, handles, scope)
        if bodies is None:
            return None
        learned = replace(learned, bodies=bodies)
    weights = factors.weights(statement, handles, scope)
    if weights is None:
        return None
    learned = replace(learned, weights=weights)
    window = Window(period.count, period.unit, when, handles[0].path if handles else "", aligned=kind == "loss")
    window.heads = handles[0].heads if handles else 0
    parameters = [(h.path, leaf, h.heads) for h in handles for leaf in h.leaves.values()]
    return rules.attach(learned, statement, parameters, scope.at(window=window))


def _restarts_together(statement: tree.Learn, handles: tuple[Handle, ...], period: Period, scope: Scope) -> bool:
    """Memories of one learn share its windows, and what gathers over them, only if they restart together."""
    for name, handle in zip(statement.targets, handles, strict=False):
        if period.unit == "step" and handle.start == "constant":
            scope.context.report(
                "NL107",
                f"`{name.id}` starts from fixed numbers in every sequence, so a training step can learn nothing in it",
                name.span,
                second=(handle.span, "declared here"),
                hint="without `from`, its start is a parameter",
            )
            return False
    words = ("window_sum", "window_mean", "window_last")
    gathers = any(objectives.mentions(e, w) for e in (statement.by, statement.retaining) if e for w in words)
    if gathers and len({(h.reset_every, h.reset_when) for h in handles}) > 1:
        message = "these memories restart at different times, so one aggregate can't serve all their windows"
        scope.context.report("NL402", message, statement.span, hint="give each a `learn` of its own")
        return False
    return True


def _blank(
    statement: tree.Learn, handles: tuple[Handle, ...], kind: str, period: Period, scope: Scope, when: Ref | None
) -> Objective | None:
    """The learn with everything but its bodies."""
    unit = ("token",) if period.unit == "step" else (scope.unit,)
    counts = {}
    for name, clause in (
        ("hold", statement.hold.length if statement.hold else None),
        ("over", statement.over.length if statement.over else None),
        ("through", statement.through),
    ):
        counted = memories.quantity(clause, scope, unit) if clause is not None else (0, "")
        if counted is None:
            return None
        counts[name] = counted[0]
    times: Any = ev.size_of(statement.times, scope, "`times`") if statement.times is not None else 1
    over_weight: Any = 1
    if statement.over is not None and statement.over.weight is not None:
        over_weight = factors.over_weight(statement.over, counts["over"], handles, scope)
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
    reading.pair_sizes(handle, key.shape[0], value.shape[0], scope, statement.span)
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
