"""Products with the same matrix, done as one: the rows of their left sides one below the other.

A memory that is read at several inputs is then read once, and an outer gradient through all of them is one product,
not several that are added. (A sum of outer products is the product of longer factors.)
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence

import torch
from nldsl.compiler.bodies.nodes import argument, called, copied, shape, unreal, value
from nldsl.compiler.bodies.views import RESHAPES
from torch import Tensor, fx

aten = torch.ops.aten


def joined(graph: fx.Graph) -> None:
    """Join the batched products of a graph of aten operators, in place."""
    unreal(graph)
    for matrix in list(graph.nodes):
        products = [n for n in matrix.users if n.target is aten.bmm.default and n.args[1] is matrix]
        for group in _independent(products):
            _join(graph, group)
    _sort(graph)
    _lay(graph)
    graph.eliminate_dead_code()


def _independent(products: Sequence[fx.Node]) -> Iterator[list[fx.Node]]:
    """Groups of at least two of which none needs another."""
    left = list(products)
    while left:
        group, rest = [left[0]], []
        below = _users(left[0])
        for node in left[1:]:
            users = _users(node)
            if node in below or not users.isdisjoint(group):
                rest.append(node)
            else:
                group.append(node)
                below |= users
        if len(group) > 1:
            yield group
        left = rest


def _users(node: fx.Node) -> set[fx.Node]:
    """All that needs a node, directly or not."""
    found: set[fx.Node] = set()
    todo = list(node.users)
    while todo:
        user = todo.pop()
        if user not in found:
            found.add(user)
            todo += user.users
    return found


def _join(graph: fx.Graph, group: Sequence[fx.Node]) -> None:
    rows = [node.args[0] for node in group]
    counts = [shape(node)[1] for node in group]
    matrix = argument(group[0], 1)
    with graph.inserting_before(group[-1]):
        stacked = called(graph, aten.cat.default, rows, 1)
        product = called(graph, aten.bmm.default, stacked, matrix)
        parts = called(graph, aten.split_with_sizes.default, product, counts, 1)
        for i, node in enumerate(group):
            node.replace_all_uses_with(called(graph, operator.getitem, parts, i))
    for node in group:
        graph.erase_node(node)


def _sort(graph: fx.Graph) -> None:
    """Put every node behind what it needs, otherwise in the order it stood in."""
    order: dict[fx.Node, None] = {}
    for node in graph.nodes:
        _visit(node, order)
    last = next(iter(graph.nodes))
    for node in list(order)[1:]:
        last.append(node)
        last = node


def _lay(graph: fx.Graph) -> None:
    """Let nodes know how they lie: a part of a joined product is no longer in one piece. A view that asks for that is
    given a copy."""
    moved = {n for n in graph.nodes if n.target is operator.getitem}
    for node in graph.nodes:
        if node.op == "output" or node in moved or moved.isdisjoint(node.all_input_nodes):
            continue
        before = node.meta["val"]
        try:
            node.meta["val"] = node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
        except RuntimeError:
            if node.target not in RESHAPES:
                raise
            _copied(graph, node)
        if not isinstance(before, Tensor) or before.stride() != node.meta["val"].stride():
            moved.add(node)


def _copied(graph: fx.Graph, view: fx.Node) -> None:
    """A view of a copy in one piece."""
    with graph.inserting_before(view):
        view.replace_input_with(argument(view), copied(graph, argument(view)))


def _visit(node: fx.Node, order: dict[fx.Node, None]) -> None:
    todo: list[tuple[fx.Node, Iterator[fx.Node]]] = [(node, iter(_unmet(node, order)))]
    while todo:
        now, needed = todo[-1]
        following = next(needed, None)
        if following is None:
            order.setdefault(now)
            todo.pop()
        elif following not in order:
            todo.append((following, iter(_unmet(following, order))))


def _unmet(node: fx.Node, order: dict[fx.Node, None]) -> Iterable[fx.Node]:
    return () if node in order else node.all_input_nodes
