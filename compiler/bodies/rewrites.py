"""Rewrites of a traced body's graphs that leave less to do and less to move: the same numbers, up to rounding.

A body's weights are large and its rows are few, so what counts is how often a weight passes through memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from nldsl.compiler.bodies.joining import joined
from nldsl.compiler.bodies.nodes import argument, called, constant, contiguous, copied, shape, unreal, value
from nldsl.compiler.bodies.tidy import tidied
from nldsl.compiler.bodies.views import by_number, sunk, turned
from torch import fx

aten = torch.ops.aten
LARGE = 4096  # numbers; for less, an operator of their own is not worth its call


def rewritten(module: fx.GraphModule) -> None:
    """Rewrite a graph of aten operators in place."""
    graph = module.graph
    unreal(graph)
    for node in list(graph.nodes):
        if node.target is aten.bmm.default:
            _thin(graph, node)
        elif node.target is aten.add.Tensor and not node.kwargs:
            _spread(graph, node)
    turned(graph)
    sunk(graph)
    for node in list(graph.nodes):
        if node.target is aten.sum.dim_IntList:
            _dot(graph, node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.target is aten.add.Tensor and not node.kwargs and not _onto(graph, node):
            _fused(graph, node)
    graph.eliminate_dead_code()
    joined(graph)
    sunk(graph)
    for node in list(graph.nodes):
        if node.target in (aten.bmm.default, aten.baddbmm.default):
            _straight(graph, node)
    tidied(graph)
    module.recompile()


def _thin(graph: fx.Graph, node: fx.Node) -> None:
    """A product of a column and a row, number by number; a product with a row of ones, as a sum."""
    a, b = argument(node), argument(node, 1)
    (rows, inner), columns = shape(a)[1:], shape(b)[2]
    with graph.inserting_before(node):
        if inner == 1:
            made = called(graph, aten.mul.Tensor, a, b)
        elif rows == 1 and constant(a) == 1:
            made = called(graph, aten.sum.dim_IntList, b, [1], True)
        elif columns == 1 and constant(b) == 1:
            made = called(graph, aten.sum.dim_IntList, a, [2], True)
        else:
            return
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _spread(graph: fx.Graph, node: fx.Node) -> None:
    """0 + row -> the row, seen at all places, where only operators that work number by number look at it."""
    for zeros, row in (node.args, node.args[::-1]):
        if constant(zeros) == 0 and isinstance(row, fx.Node) and value(row).dtype == value(node).dtype:
            if all(by_number(user) for user in node.users):
                with graph.inserting_before(node):
                    node.replace_all_uses_with(called(graph, aten.expand.default, row, shape(node)))
            return


def _straight(graph: fx.Graph, node: fx.Node) -> None:
    """A batch of matrices that is one matrix seen many times is written out: otherwise products take it one by one."""
    for matrix in node.args[-2:]:
        assert isinstance(matrix, fx.Node)
        rows, columns = shape(matrix)[1:]
        _, down, across = value(matrix).stride()
        if not (across == 1 and down >= columns) and not (down == 1 and across >= rows):
            with graph.inserting_before(node):
                node.replace_input_with(matrix, copied(graph, matrix))


def _row(total: fx.Node) -> fx.Node:
    """What is added to every row, where that is known."""
    if total.target is aten.mul.Tensor and len(shape(total)) == 3:
        for ones, row in (total.args, total.args[::-1]):
            if constant(ones) == 1 and isinstance(row, fx.Node) and shape(row)[-2:-1] == [1]:
                return row
    return total


def _dot(graph: fx.Graph, node: fx.Node) -> None:
    """sum(a b), over all but the first axes, as a product of two rows."""
    summand = argument(node)
    product = _base(summand)
    if product.target is not aten.mul.Tensor or not _alone(summand, product) or len(product.all_input_nodes) != 2:
        return
    if any(shape(x) != shape(product) or not contiguous(x) for x in product.all_input_nodes):
        return
    whole = shape(summand)
    summed = sorted(int(i) % len(whole) for i in node.args[1])  # type: ignore[union-attr,arg-type]
    first = len(whole) - len(summed)
    count, size = math.prod(whole[:first]), math.prod(whole[first:])
    if summed != list(range(first, len(whole))) or size < LARGE:
        return
    with graph.inserting_before(node):
        row, other = (called(graph, aten.view.default, x, [count, 1, size]) for x in product.all_input_nodes)
        total = called(graph, aten.bmm.default, row, called(graph, aten.transpose.int, other, 1, 2))
        node.replace_all_uses_with(called(graph, aten.view.default, total, shape(node)))


def _onto(graph: fx.Graph, node: fx.Node) -> bool:
    """total + a b in one pass over the total."""
    for total, view in (node.args, node.args[::-1]):
        if not isinstance(total, fx.Node) or not isinstance(view, fx.Node):
            continue
        product = _base(view)
        if product.target is not aten.bmm.default or not _alone(view, product) or not _match(node, total, view):
            continue
        with graph.inserting_before(node):
            onto = _row(total) if shape(total) == shape(product) else total
            if onto is total:
                onto = called(graph, aten.view.default, total, shape(product))
            both = called(graph, aten.baddbmm.default, onto, *product.args)
            node.replace_all_uses_with(called(graph, aten.view.default, both, shape(node)))
        return True
    return False


def _match(*nodes: fx.Node) -> bool:
    """Whether these give tensors of one kind."""
    return contiguous(*nodes) and len({(tuple(shape(n)), value(n).dtype) for n in nodes}) == 1


def _base(view: fx.Node) -> fx.Node:
    while view.target in (aten.view.default, aten._unsafe_view.default):
        view = argument(view)
    return view


def _alone(view: fx.Node, base: fx.Node) -> bool:
    """Whether nothing but this view of a node is used, and once."""
    while view is not base and len(view.users) == 1:
        view = argument(view)
    return view is base and len(view.users) == 1


def _fused(graph: fx.Graph, node: fx.Node) -> None:
    """total + a b, number by number, in one pass."""
    for total, product in (node.args, node.args[::-1]):
        if not isinstance(total, fx.Node) or not isinstance(product, fx.Node):
            continue
        if product.target is not aten.mul.Tensor or len(product.users) > 1 or shape(total) != shape(node):
            continue
        factors: tuple[Any, ...] = product.args
        if not all(isinstance(x, fx.Node) for x in factors) or math.prod(shape(node)) < LARGE:
            continue
        if len({value(x).dtype for x in (total, *factors)}) == 1:
            with graph.inserting_before(node):
                made = called(graph, aten.addcmul.default, total, *factors)
            if value(made).stride() == value(node).stride():  # as the views of it expect
                node.replace_all_uses_with(made)
                return
