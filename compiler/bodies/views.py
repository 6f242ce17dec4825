"""Views are moved behind the operators that work number by number, until they meet their opposites and go.

A body that looks at the same rows by head, by token and as a batch of matrices otherwise has more views than sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        elif by_number(node):
            _sink(graph, node)
        elif node.target is aten.sum.dim_IntList:
            _sum(graph, node)
        elif node.target in RESHAPES:
            _reshape(graph, node)
        elif node.target is aten.transpose.int:
            before = undone(node)
            if before is not None:
                node.replace_all_uses_with(before)
    for node in reversed(list(graph.nodes)):
        if node.target in RESHAPES and node.users:
            _lift(graph, node)
    for node in list(graph.nodes):
        if node.target in RESHAPES:
            _reshape(graph, node)
    graph.eliminate_dead_code()


def turned(graph: fx.Graph) -> None:
    """(a b)^T -> b^T a^T, also of sums of products: a gradient of a transposed factor lies as the factor does."""
    for node in list(graph.nodes):
        if node.target is aten.transpose.int:
            _turn(graph, node)
    graph.eliminate_dead_code()


def by_number(node: fx.Node) -> bool:
    """Whether an operator works number by number."""
    return torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target is aten.ones_like.default


def _sink(graph: fx.Graph, node: fx.Node) -> None:
    """op(view(x), y) -> view(op(x, y as x is seen)): y is seen like x already, or the view only splits axes."""
    for view in node.all_input_nodes:
        if view.target not in MOVES or shape(view) != shape(node):
            continue
        base = argument(view)
        splits = view.target in RESHAPES and contiguous(base) and len(shape(base)) < len(shape(view))
        instead: dict[fx.Node, Any] = {}
        for x in node.all_input_nodes:
            alike = x.target in MOVES and _way(x) == _way(view) and shape(argument(x)) == shape(base)
            instead[x] = argument(x) if alike else _merged(x, shape(view), shape(base)) if splits else None
        inner = _again(graph, node, instead)
        if inner is None or (view.target in RESHAPES and not contiguous(inner)):
            continue
        with graph.inserting_before(node):
            outer = called(graph, view.target, inner, *view.args[1:])  # type: ignore[arg-type]
        node.replace_all_uses_with(outer)
        graph.erase_node(node)
        if outer.target in RESHAPES:
            _reshape(graph, outer)
        return


def _sum(graph: fx.Graph, node: fx.Node) -> None:
    """sum(view(x)) -> view(sum(x)), over last axes that the view leaves as they are."""
    view, (_, summed, *keeps) = argument(node), node.args
    if view.target not in RESHAPES or not contiguous(argument(view)) or keeps != [True]:
        return
    seen, base = shape(view), shape(argument(view))
    left = min(int(i) % len(seen) for i in summed) - len(seen)  # type: ignore[union-attr,arg-type]
    if len(base) < -left or len(base) >= len(seen) or seen[left:] != base[left:]:
        return
    last = [int(i) % len(seen) - len(seen) for i in summed]  # type: ignore[union-attr,arg-type]
    with graph.inserting_before(node):
        total = called(graph, aten.sum.dim_IntList, argument(view), last, True)
        node.replace_all_uses_with(called(graph, aten.view.default, total, shape(node)))
    graph.erase_node(node)


def _lift(graph: fx.Graph, node: fx.Node) -> None:
    """view(op(x, y)) -> op(view(x), view(y)), where the view merges axes, and view(x^T) -> view(x)^T."""
    op, merged = argument(node), shape(node)
    if len(merged) >= len(shape(op)):
        return
    if op.target is aten.transpose.int:
        rank = len(shape(op))
        if axes(op) != {rank - 2, rank - 1} or merged[-2:] != shape(op)[-2:] or len(merged) < 3:
            return
        found = _merged(argument(op), shape(argument(op)), [*merged[:-2], merged[-1], merged[-2]])
        if found is None:
            return
        with graph.inserting_before(node):
            matrix = called(graph, aten.view.default, argument(op), found)
            node.replace_all_uses_with(called(graph, aten.transpose.int, matrix, -2, -1))
        _lift(graph, matrix)
    elif by_number(op) and contiguous(op):
        inner = _again(graph, op, {x: _merged(x, shape(op), merged) for x in op.all_input_nodes})
        if inner is None or not contiguous(inner):
            return
        with graph.inserting_before(op):
            outer = called(graph, aten.view.default, inner, shape(op))
        node.replace_all_uses_with(inner)
        op.replace_all_uses_with(outer)
        for x in inner.all_input_nodes:
            if x.target in RESHAPES:
                _lift(graph, x)


def _again(graph: fx.Graph, op: fx.Node, instead: Mapping[fx.Node, Any]) -> fx.Node | None:
    """An operator on other arguments: nodes, or shapes in which the old ones are seen. None where one is missing."""
    if any(x is None for x in instead.values()):
        return None
    with graph.inserting_before(op):
        made = {
            x: new if isinstance(new, fx.Node) else called(graph, aten.view.default, x, new)
            for x, new in instead.items()
        }
        args = fx.map_arg(op.args, made.__getitem__)
        inner = graph.call_function(op.target, args, op.kwargs)  # type: ignore[arg-type]
    inner.meta["val"] = op.target(*fx.map_arg(args, value), **op.kwargs)  # type: ignore[operator]
    return inner


def _merged(x: fx.Node, seen: Sequence[int], merged: Sequence[int]) -> list[int] | None:
    """The shape of x, which is broadcast to `seen`, with axes merged as they are in `merged`: None if it can't be seen
    so."""
    given = shape(x)
    if len(given) != len(seen) or any(n not in (1, m) for n, m in zip(given, seen, strict=True)):
        return None
    found: list[int] = []
    place = 0
    for whole in merged:
        first, size = place, 1
        while place < len(seen) and (size < whole or place == first):
            size, place = size * seen[place], place + 1
        found.append(math.prod(given[first:place]))
        if size != whole or found[-1] not in (1, whole):
            return None
    try:
        value(x).view(found)
    except RuntimeError:
        return None
    return found if all(n == 1 for n in seen[place:]) else None


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
    while base.target in RESHAPES and (contiguous(argument(base)) or shape(argument(base)) == shape(node)):
        base = argument(base)
    if shape(node) == shape(base):
        node.replace_all_uses_with(base)
        graph.erase_node(node)
    elif contiguous(base) and (base is not node.args[0] or node.target is not aten.view.default):
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
