"""Views are moved behind the operators that work number by number, until they meet their opposites and go.

A body that looks at the same rows by head, by token and as a batch of matrices otherwise has more views than sums.
"""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.bodies.nodes import argument, called, contiguous, shape, value
from nldsl.compiler.bodies.tidy import axes, undone
from torch import fx

aten = torch.ops.aten

RESHAPES: set[Any] = {aten.view.default, aten._unsafe_view.default, aten.squeeze.dim, aten.unsqueeze.default}
MOVES: set[Any] = RESHAPES | {aten.transpose.int}


def sunk(graph: fx.Graph) -> None:
    """Move the views of a graph of aten operators, in place."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.clone.default:
            _copy(node)
        elif torch.Tag.pointwise in getattr(node.target, "tags", ()):
            _sink(graph, node)
        elif node.target in RESHAPES:
            _reshape(graph, node)
        elif node.target is aten.transpose.int:
            before = undone(node)
            if before is not None:
                node.replace_all_uses_with(before)
    graph.eliminate_dead_code()


def turned(graph: fx.Graph) -> None:
    """(a b)^T -> b^T a^T, also of sums of products: a gradient of a transposed factor lies as the factor does."""
    for node in list(graph.nodes):
        if node.target is aten.transpose.int:
            _turn(graph, node)
    graph.eliminate_dead_code()


def _sink(graph: fx.Graph, node: fx.Node) -> None:
    """op(view(x)) -> view(op(x)), where all tensors are seen in the same way."""
    views = node.all_input_nodes
    if not views or views[0].target not in MOVES or any(_way(v) != _way(views[0]) for v in views):
        return
    base = argument(views[0])
    if shape(node) != shape(views[0]) or any(shape(argument(v)) != shape(base) for v in views):
        return
    args = fx.map_arg(node.args, argument)
    result = node.target(*fx.map_arg(args, value), **node.kwargs)  # type: ignore[operator]
    if views[0].target in RESHAPES and not result.is_contiguous():
        return
    with graph.inserting_before(node):
        inner = graph.call_function(node.target, args, node.kwargs)  # type: ignore[arg-type]
        inner.meta["val"] = result
        outer = called(graph, views[0].target, inner, *views[0].args[1:])  # type: ignore[arg-type]
    node.replace_all_uses_with(outer)
    graph.erase_node(node)
    if outer.target in RESHAPES:
        _reshape(graph, outer)


def _way(view: fx.Node) -> Any:
    """Equal for views that do the same to tensors of one shape."""
    target = aten.view.default if view.target is aten._unsafe_view.default else view.target
    return target, tuple(str(a) for a in view.args[1:])


def _copy(node: fx.Node) -> None:
    """A copy of what lies in memory as the copy would: nothing is written over at this point."""
    if contiguous(node, argument(node)):
        node.replace_all_uses_with(argument(node))


def _reshape(graph: fx.Graph, node: fx.Node) -> None:
    """One view in place of several, none where the shape is the same again."""
    base = argument(node)
    if not contiguous(base):
        return
    while base.target in RESHAPES and contiguous(argument(base)):
        base = argument(base)
    if shape(node) == shape(base):
        node.replace_all_uses_with(base)
        graph.erase_node(node)
    elif base is not node.args[0] or node.target is not aten.view.default:
        with graph.inserting_before(node):
            node.replace_all_uses_with(called(graph, aten.view.default, base, shape(node)))
        graph.erase_node(node)


def _turn(graph: fx.Graph, node: fx.Node) -> None:
    x = argument(node)
    rank = len(shape(node))
    if len(x.users) > 1 or rank < 3 or axes(node) != {rank - 2, rank - 1}:
        return
    turns: list[fx.Node] = []

    def other(a: Any) -> fx.Node:
        turns.append(called(graph, aten.transpose.int, a, -2, -1))
        return turns[-1]

    with graph.inserting_before(node):
        if x.target is aten.bmm.default:
            made = called(graph, aten.bmm.default, other(x.args[1]), other(x.args[0]))
        elif x.target is aten.add.Tensor and not x.kwargs and all(_alike(a, x) for a in x.args):
            made = called(graph, aten.add.Tensor, *map(other, x.args))
        elif x.target in RESHAPES and shape(x)[-2:] == shape(argument(x))[-2:] and len(shape(argument(x))) > 2:
            made = called(graph, aten.view.default, other(x.args[0]), shape(node))
        else:
            return
    node.replace_all_uses_with(made)
    if x.target is not aten.bmm.default:
        for a in turns:
            _turn(graph, a)


def _alike(a: Any, b: fx.Node) -> bool:
    return isinstance(a, fx.Node) and shape(a) == shape(b)
