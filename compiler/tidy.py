"""Tidying a traced body: what does nothing is left out, what is computed twice is computed once.

The rows of one table say when an operator does nothing. None of this changes a number: it only leaves less to do at
run time, and fewer products for an outer gradient to go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten


def tidied(graph: fx.Graph) -> None:
    """Tidy a graph of aten operators in place. A graph that writes into its tensors is left as it is."""
    if any(_writes(node) for node in graph.nodes):
        return
    known: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        instead = _nothing(node) or known.setdefault(_key(node), node)
        if instead is not node:
            node.replace_all_uses_with(instead)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


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
        if isinstance(x, fx.Node) and _zero(other) and _shape(x) == _shape(node) and _dtype(x) == _dtype(node):
            return x
    return None


def _zero(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.target in (aten.zeros.default, aten.new_zeros.default)


def _undone(node: fx.Node) -> fx.Node | None:
    """A transposition that undoes another one."""
    inner = node.args[0]
    assert isinstance(inner, fx.Node)
    if inner.target is not node.target or _axes(inner) != _axes(node):
        return None
    return inner.args[0]  # type: ignore[return-value]


def _axes(node: fx.Node) -> set[int]:
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
    aten.transpose.int: _undone,
    aten.add.Tensor: _added_zero,
}
