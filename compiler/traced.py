"""A rule's update as a flat graph of torch operations: what its body says is found out once and then just repeated.

Interpreting a body takes longer than its arithmetic does on a small weight, and a graph can spare passes over a large
one. All weights with one body, shape and memory layout share a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from nldsl.compiler.bodies.tidy import tidied
from nldsl.compiler.bodies.tracing import recorded
from torch import Tensor, fx

aten = torch.ops.aten
Function = Callable[[list[Tensor]], list[Tensor]]


class Traced:
    """Runs functions of tensors as graphs. A function may use its arguments and numbers only, and what it does may not
    depend on the arguments' values."""

    def __init__(self) -> None:
        self.graphs: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, name: Hashable, function: Function, tensors: list[Tensor]) -> list[Tensor]:
        """function(tensors). name: functions of one name do the same."""
        key = (name, *((x.shape, x.stride(), x.dtype, x.device) for x in tensors))
        graph = self.graphs.get(key)
        if graph is None:
            graph = self.graphs[key] = graph_of(function, tensors).forward
        return graph(*tensors)  # type: ignore[no-any-return]


def graph_of(function: Function, tensors: list[Tensor]) -> fx.GraphModule:
    graph = recorded(lambda *given: function([*given]), tensors)
    tidied(graph.graph)
    shortened(graph.graph)
    graph.recompile()
    return graph


def shortened(graph: fx.Graph) -> None:
    """x + c * y in one pass."""
    for node in graph.nodes:
        if node.target in (aten.add.Tensor, aten.sub.Tensor) and not node.kwargs:
            x, y = node.args
            if node.target is aten.add.Tensor and not _is_multiple(y, node):
                x, y = y, x
            if _is_multiple(y, node) and isinstance(x, fx.Node):
                node.args, node.kwargs = (x, y.args[0]), {"alpha": y.args[1]}
    graph.eliminate_dead_code()


def _is_multiple(y: Any, result: fx.Node) -> bool:
    """Whether y is a number times a tensor of the result's type."""
    if not isinstance(y, fx.Node) or y.target is not aten.mul.Tensor:
        return False
    x, number = y.args
    return isinstance(x, fx.Node) and isinstance(number, int | float) and _dtype(x) == _dtype(result)


def _dtype(node: fx.Node) -> torch.dtype:
    return node.meta["val"].dtype  # type: ignore[no-any-return]
