"""Tidying a traced body: what does nothing is left out, what is computed twice is computed once.

The rows of one table say when an operator does nothing. None of this changes a number: it only leaves less to do at
run time, and fewer products for an outer gradient to go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nldsl.compiler.bodies.nodes import PASSING, argument, constant, is_view
from torch import fx

aten = torch.ops.aten


def tidied(graph: fx.Graph) -> None:
    """Tidy a graph of aten operators in place. A graph that writes into its tensors is left as it is."""
    for node in graph.nodes:
        if node.op == "call_function":
            _pure(node)
    graph.eliminate_dead_code()
    if writes(graph):
        return
    known: dict[Any, fx.Node] = {}
    numbers: dict[fx.Node, float] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        _number(node, numbers)
        instead = _nothing(node) or known.setdefault(_key(node), node)
        if instead is not node:
            node.replace_all_uses_with(instead)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def writes(graph: fx.Graph) -> bool:
    """Whether an operator writes into a tensor that was there before it."""
    return any(isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in graph.nodes)


def _pure(node: fx.Node) -> None:
    """Some formulas of torch make a tensor and write into it at once: no one sees it before."""
    new = node.args[0] if node.args else None
    name = str(getattr(node.target, "_opname", ""))
    if not isinstance(new, fx.Node) or len(new.users) > 1 or not name.endswith("_") or not _is_new(new):
        return
    if node.target is aten.fill_.Scalar and new.target is aten.empty_like.default:
        node.target, node.args = aten.full_like.default, (new.args[0], node.args[1])
    elif hasattr(aten, name[:-1]):
        node.target = getattr(getattr(aten, name[:-1]), node.target._overloadname)  # type: ignore[union-attr]


def _is_new(node: fx.Node) -> bool:
    """Whether a node gives a tensor of its own."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not is_view(node) and all(r.alias_info is None for r in schema.returns)


def _number(node: fx.Node, numbers: dict[Any, Any]) -> None:
    """Note whether all that a node gives is one number, and let it be multiplied as one."""
    known = 1.0 if node.target is aten.pow.Tensor_Scalar and node.args[1] == 0 else constant(node)
    if known is not None and _dtype(node) and _dtype(node).is_floating_point:
        numbers[node] = known
    elif node.target in PASSING and node.args[0] in numbers:
        numbers[node] = numbers[node.args[0]]
    elif node.target in (aten.mul.Tensor, aten.mul.Scalar):
        for a, b in (node.args, node.args[::-1]):
            factor = numbers.get(b, b)
            if not isinstance(factor, float) or not isinstance(a, fx.Node):
                continue
            if a in numbers:
                numbers[node] = numbers[a] * factor
            elif _alike(a, node):
                twice = a.target is aten.mul.Scalar and isinstance(a.args[1], float)
                node.target = aten.mul.Scalar
                node.args = (a.args[0], a.args[1] * factor) if twice else (a, factor)  # type: ignore[operator]
            return


def _alike(a: fx.Node, b: fx.Node) -> bool:
    return bool(_shape(a) == _shape(b) and _dtype(a) == _dtype(b))


def attached(graph: fx.Graph) -> None:
    """Leave out what stops gradients, where none will be taken any more."""
    for node in list(graph.nodes):
        if node.target is aten.detach.default:
            node.replace_all_uses_with(argument(node))
            graph.erase_node(node)


def slopes(graph: fx.Graph) -> None:
    """Where a function's slope is asked for several times at one place, it is worked out once."""
    asked: dict[Any, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.target in SLOPES and _alike(node.args[0], node):
            asked.setdefault((node.target, node.args[1], str(node.kwargs)), []).append(node)
    for (target, x, _), nodes in asked.items():
        if len(nodes) < 2:
            continue
        first = nodes[0]
        with graph.inserting_before(first):
            one = graph.call_function(aten.ones_like.default, (x,))
            slope = graph.call_function(target, (one, x), first.kwargs)
        one.meta, slope.meta = dict(x.meta), dict(x.meta)
        for node in nodes:
            node.target, node.args, node.kwargs = aten.mul.Tensor, (node.args[0], slope), {}


def _key(node: fx.Node) -> Any:
    """Equal for nodes that compute the same. Random ones never do."""
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return node
    return node.target, repr(node.args), repr(sorted(node.kwargs.items()))


def _nothing(node: fx.Node) -> fx.Node | None:
    """The argument that a node gives back as it is."""
    row = NOTHING.get(node.target)
    return row(node) if row else None


def _same_shape(node: fx.Node) -> fx.Node | None:
    given = node.args[0]
    assert isinstance(given, fx.Node)
    return given if _shape(given) == _shape(node) else None


def _added_zero(node: fx.Node) -> fx.Node | None:
    for x, other in (node.args[:2], node.args[1::-1]):
        if isinstance(x, fx.Node) and constant(other) == 0 and _shape(x) == _shape(node) and _dtype(x) == _dtype(node):
            return x
    return None


def _by_one(node: fx.Node) -> fx.Node | None:
    return node.args[0] if node.args[1] == 1 else None  # type: ignore[return-value]


def undone(node: fx.Node) -> fx.Node | None:
    """A transposition that undoes another one."""
    inner = argument(node)
    return argument(inner) if inner.target is node.target and axes(inner) == axes(node) else None


def axes(node: fx.Node) -> set[int]:
    """The two that a transposition changes."""
    rank = len(_shape(node))
    return {int(a) % rank for a in node.args[1:]}  # type: ignore[arg-type]


def _shape(node: fx.Node) -> Any:
    return node.meta["val"].shape if "val" in node.meta else None


def _dtype(node: fx.Node) -> Any:
    return node.meta["val"].dtype if "val" in node.meta else None


NOTHING: dict[Any, Callable[[fx.Node], fx.Node | None]] = {
    aten.expand.default: _same_shape,
    aten.view.default: _same_shape,
    aten._unsafe_view.default: _same_shape,
    aten.squeeze.dim: _same_shape,
    aten.transpose.int: undone,
    aten.add.Tensor: _added_zero,
    aten.mul.Scalar: _by_one,
    aten.pow.Tensor_Scalar: _by_one,
}

SLOPES = {aten.gelu_backward.default, aten.silu_backward.default}
