"""`from Other`, `from f(start)`: the bodies that compute where a memory starts."""

from __future__ import annotations

from dataclasses import replace

from nldsl.graph import Leaf
from nldsl.instantiate import evaluate as ev
from nldsl.instantiate import reading
from nldsl.instantiate.builder import Builder
from nldsl.instantiate.scope import Scope
from nldsl.instantiate.values import (
    POISON,
    Handle,
    Poison,
    Ref,
    Value,
)
from nldsl.spans import Span


def start_bodies(handle: Handle) -> None:
    """`from Other`, `from f(start)`: one body per leaf, computing where it starts."""
    expr, scope = handle.start_expr, handle.start_env
    if handle.start != "body" or expr is None:
        return
    bodies = []
    for leaf in handle.leaves.values():
        builder = Builder(f"start of {handle.path}.{leaf.name}", scope.context.report, scope.context.budget)
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
    if not reading.materialise(other, scope, span):
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
