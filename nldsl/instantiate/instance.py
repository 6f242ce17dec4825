"""Program + sizes -> the records of its level graph, everything unrolled and known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nldsl.diagnostics import Findings, nearest
from nldsl.graph import Body, Objective, Period, Port, Record
from nldsl.instantiate import binding, learning, rules, starts, statements
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.builder import Budget, Builder, TooLarge, finished
from nldsl.instantiate.learning import Deferred
from nldsl.instantiate.scope import Context, Scope, Window
from nldsl.instantiate.values import Function, Handle, Poison, Ref, Value, is_number
from nldsl.parameters import Parameter, parameters
from nldsl.shape_rules import Dim
from nldsl.syntax import tree


@dataclass(frozen=True)
class Instance:
    """What instantiation gives: `graph_of` makes the level graph of it."""

    name: str
    kind: str
    hyper: tuple[tuple[str, Any], ...]
    tick: Body
    bodies: dict[str, Body]
    loss: str
    outs: tuple[Port, ...]
    levels: tuple[tuple[str, Period], ...]
    broken: bool


def instantiate(function: Function, hyper: Mapping[str, Any], findings: Findings, rounds: int = 0) -> Instance | None:
    """Unroll a model or block with these hyper-parameters; what is wrong goes to `findings`. rounds: the most rounds of
    a `repeat`, 0 for as many as the text says."""
    before = len(findings.errors)
    context = Context(findings, Budget(), file=function.module.file, rounds=rounds)
    definition = function.definition
    try:
        bound = _hyper(function, hyper, context)
        if bound is None:
            return None
        builder = Builder(definition.name.id, context.report, context.budget)
        scope = Scope(context, function.module, definition, builder, {})
        env = _environment(function, bound, scope)
        if env is None:
            return None
        scope.env.update(env)
        if not all(_port(port, scope) for port in definition.ports):
            return None
        context.opened = (definition,)
        values = statements.run(definition.body, scope)
        outs = _outs(values or [], scope)
        _finish(context, builder)
    except TooLarge as limit:
        findings.add(limit.diagnostic)
        return None
    tick = builder.body(tuple(o.stream for o in outs))
    bodies = {n: b for n, b in context.bodies.items() if b is not None}
    broken = values is None or len(findings.errors) > before
    kept = tuple((n, _plain(v)) for n, v in env.items())
    loss = context.loss.id if context.loss is not None else ""
    levels = tuple(context.level_names.items())
    return Instance(definition.name.id, definition.kind, kept, tick, bodies, loss, outs, levels, broken)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Dim) else [_plain(v) for v in value] if isinstance(value, list) else value


def _hyper(function: Function, hyper: Mapping[str, Any], context: Context) -> Function | None:
    names = [p.name for p in function.definition.parameters]
    bad = False
    for name, value in hyper.items():
        if name not in names:
            context.report(
                "NL204",
                f"`{function.name}` has no hyper-parameter `{name}`",
                function.definition.name.span,
                hint=nearest(name, names),
                alternatives=tuple(f"`{n}`" for n in names),
            )
            bad = True
        elif not _usable(value):
            context.report(
                "NL204",
                f"`{name}` can't be {value!r}: a number, true, false or a list of them is needed",
                function.definition.name.span,
            )
            bad = True
    return None if bad else Function(function.definition, function.module, dict(hyper), True)


def _usable(value: object) -> bool:
    return is_number(value) or (isinstance(value, list | tuple) and all(map(_usable, value)))


def _environment(function: Function, bound: Function, scope: Scope) -> dict[str, Value] | None:

    missing = [p for p in function.definition.parameters if p.default is None and p.name not in bound.bound]
    for parameter in missing:
        scope.context.report(
            "NL204",
            f"`{function.name}` needs a value for `{parameter.name}`",
            parameter.span,
            hint=f"give it one: `--set {parameter.name}=…`, or a default in the text",
        )
    return None if missing else binding.environment(bound, scope, function.definition.name.span)


def _port(port: tree.Port, scope: Scope) -> bool:
    if isinstance(port.shape, tree.Name):
        if port.shape.id != "int":
            scope.context.report(
                "NL107",
                f"a stream is `int` or has a shape; `{port.shape.id}` is neither",
                port.span,
                hint=f"write `{port.name}: [dim]` or `{port.name}: int`",
            )
            return False
        scope.env[port.name] = scope.builder.port(port.name, (), dtype="int")
        return True
    shape: Any = () if port.shape is None else ev.shape_of(port.shape, scope)
    if isinstance(shape, Poison):
        return False
    scope.env[port.name] = scope.builder.port(port.name, shape)
    return True


def _outs(values: list[Value], scope: Scope) -> tuple[Port, ...]:
    outs = []
    definition = scope.definition
    if values and not binding.match_results(definition, values, scope):
        return ()
    for i, value in enumerate(values):
        if isinstance(value, list):
            scope.context.report(
                "NL107",
                "a program returns streams, and this is a list",
                binding.returned(definition),
                hint="return its items, separated by commas",
            )
            continue
        if is_number(value):
            zero = scope.builder.emit("zeros", (), definition.span, shape=())
            value = scope.builder.emit("add", (zero, value), definition.span)  # type: ignore[arg-type]
        if isinstance(value, Ref):
            outs.append(Port(f"out{i}", "out", value.shape, value.heads, value.dtype, value.id, definition.span))
    return tuple(outs)


# Once the whole text has run


def _finish(context: Context, builder: Builder) -> None:
    _with_loss(context)
    for handle in context.handles.values():
        starts.start_bodies(handle)
    for handle in context.handles.values():
        _settle(handle, context)
    for deferred in context.stars if context.loss_span is not None else ():
        objective = _star(deferred, context, builder)
        place = next(i for i, r in enumerate(builder.records) if r is deferred)
        builder.records[place : place + 1] = [objective] if objective else []
        if objective:
            context.learned.append(objective)


def _with_loss(context: Context) -> None:
    """Whoever learns from `loss` needs one."""
    if context.loss_span is not None:
        return
    wanting = [o for o in context.learned if o.kind == "loss"]
    spans = [o.where("minimizing") for o in wanting] + [d.statement.minimizing.span for d in context.stars]
    if spans:
        context.report(
            "NL111",
            "this learns from `loss`, and nothing assigns one",
            spans[0],
            hint="a model assigns it: `loss = cross_entropy(logits, next(ids))`; a block learns "
            "from the loss of the model it is in, and `as_model=True` makes one of it",
        )


def _settle(handle: Handle, context: Context) -> None:
    """A memory that nothing has read has no leaves yet; say so, unless something else is wrong with it."""
    if handle.leaves or handle.broken or handle.form == "attention" or not handle.declared or context.findings.errors:
        return
    if handle.parts:
        name = handle.path.rpartition(".")[2]
        context.report(
            "NL901",
            f"`{name}` is declared and never used",
            handle.span,
            severity="warning",
            hint="remove it, or read it",
        )


def _star(deferred: Deferred, context: Context, builder: Builder) -> Objective | None:
    """`learn *`: on a step clock every parameter no other step-clock learn claims, on a token clock every memory of
    nets without a token-clock learn of its own."""
    statement, scope, period = deferred.statement, deferred.scope, deferred.period
    records: list[Record] = finished(builder.records)
    bodies = {n: b for n, b in context.bodies.items() if b is not None}
    others = [r for r in records if isinstance(r, Objective)]
    if period.unit == "step":
        taken = {m for o in others if o.every.unit == "step" for m in o.memories}
        free = [p for p in parameters(records, bodies) if p.learned and p.memory not in taken]
    else:
        taken = {m for o in others if o.every.unit != "step" for m in o.memories}
        taken |= {s.memory for s in builder.index.values() if s.op == "assign"}
        free = [p for p in parameters(records, bodies, ()) if p.form == "weights" and p.memory not in taken]
    seen: dict[str, Parameter] = {p.name: p for p in free}
    blank = build_star(deferred, tuple(dict.fromkeys(p.memory for p in seen.values())))
    if blank is None or not seen:
        return blank
    targets = [(p.memory, p.leaf, p.heads) for p in seen.values()]
    window = Window(period.count, period.unit)
    return rules.attach(blank, statement, targets, scope.at(window=window))


def build_star(deferred: Deferred, names: tuple[str, ...]) -> Objective | None:
    statement, scope = deferred.statement, deferred.scope
    objective = learning.build(statement, (), "loss", deferred.period, scope)
    return None if objective is None else replace(objective, id=learning.learn_id((), scope), memories=names)
