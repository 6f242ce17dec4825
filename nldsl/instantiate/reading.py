"""Reading memories: their nets at the weights a place sees, attention, nets applied in place."""

from __future__ import annotations

from nldsl.graph import Leaf, Stream
from nldsl.instantiate import apply, binding, memories
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate.builder import Builder
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    Function,
    Handle,
    Operand,
    Poison,
    Ref,
    Value,
)
from nldsl.naming import snake
from nldsl.spans import Span
from nldsl.syntax import tree


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
            handle.broken = True  # what is wrong has been said; its other readers stay silent
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
    if handle.key_size != query.shape[0]:
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
        memories.register(handle, scope, span)
        if outside.records and outside.records[-1] is handle:
            outside.records.insert(place, outside.records.pop())
    return result


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
    env = binding.environment(part, scope, span)
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
    scratch = Builder("scratch", scope.context.report, scope.context.budget)
    stream = scratch.port("x", shape)
    read(handle, (stream,), scope.at(builder=scratch, kind="tick", teaching=None, running=None), span)
    return bool(handle.leaves)
