"""How a graph of aten operators is run where no compiler takes it.

Operators write over what nothing needs any more, and are called as Python reaches them fastest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import matrices
from nldsl.compiler.bodies.nodes import argument, is_view, value
from torch import Tensor, fx

aten = torch.ops.aten

# What may write over its first argument, where that is of the result's kind.
IN_PLACE: dict[Any, Any] = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.div.Tensor: aten.div_.Tensor,
    aten.neg.default: aten.neg_.default,
    aten.addcmul.default: aten.addcmul_.default,
    aten.baddbmm.default: aten.baddbmm.out,  # which counts as a product where products are counted
}
COMMUTE: set[Any] = {aten.add.Tensor, aten.mul.Tensor}

# What Python reaches without looking up an overload: half the time of a small operator.
DIRECT: dict[Any, Any] = {
    aten.add.Tensor: torch.add,
    aten.sub.Tensor: torch.sub,
    aten.mul.Tensor: torch.mul,
    aten.mul.Scalar: torch.mul,
    aten.bmm.default: torch.bmm,
    aten.baddbmm.default: torch.baddbmm,
    aten.baddbmm.out: torch.baddbmm,
    aten.cat.default: torch.cat,
    aten.sum.dim_IntList: torch.sum,
    aten.add_.Tensor: "add_",
    aten.sub_.Tensor: "sub_",
    aten.mul_.Tensor: "mul_",
    aten.mul_.Scalar: "mul_",
    aten.addcmul_.default: "addcmul_",
    aten.view.default: "view",
    aten._unsafe_view.default: "view",
    aten.transpose.int: "transpose",
    aten.unsqueeze.default: "unsqueeze",
    aten.squeeze.dim: "squeeze",
    aten.expand.default: "expand",
}


def inplace(module: fx.GraphModule, device: str) -> fx.GraphModule:
    """The same graph, to be run as it is on a device. Its inputs are not written over."""
    if device == "cpu":
        matrices.chosen(module.graph)
    storages = _Storages(module.graph)
    for node in module.graph.nodes:
        over = next(storages.free(node), None)
        if over is not None:
            storages.write(node, over)
    for node in module.graph.nodes:
        target = DIRECT.get(node.target) if node.op == "call_function" else None
        if target is not None:
            node.op, node.target = ("call_method" if isinstance(target, str) else "call_function"), target
            if target == "view":  # of numbers, not of a list that is made at every call
                node.args = (node.args[0], *node.args[1])
    module.recompile()
    return module


@dataclass(frozen=True)
class _Over:
    """What a node may write over, and its other arguments."""

    node: fx.Node
    others: tuple[Any, ...]


class _Storages:
    """Whose memory the nodes of a graph give, and when it is used for the last time."""

    def __init__(self, graph: fx.Graph) -> None:
        nodes = list(graph.nodes)
        self.place: Mapping[fx.Node, int] = {n: i for i, n in enumerate(nodes)}
        self.owner: dict[fx.Node, fx.Node] = {}
        self.last: dict[fx.Node, int] = {}
        for node in nodes:
            owner = self.owner[argument(node)] if is_view(node) else node
            self.owner[node] = owner
            self.last[owner] = max([self.last.get(owner, 0), *(self.place[u] for u in node.users)])

    def free(self, node: fx.Node) -> Iterator[_Over]:
        """What a node may write over."""
        if node.target not in IN_PLACE or node.kwargs:
            return
        ways = [_Over(argument(node), node.args[1:])]
        if node.target in COMMUTE and isinstance(node.args[1], fx.Node):
            ways.append(_Over(node.args[1], node.args[:1]))
        for over in ways:
            owner = self.owner[over.node]
            if owner.op != "call_function" or self.last[owner] > self.place[node]:
                continue
            if any(isinstance(x, fx.Node) and self.owner[x] is owner for x in over.others):
                continue
            a, b = value(over.node), value(node)
            if a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride() and _dense(a):
                yield over

    def write(self, node: fx.Node, over: _Over) -> None:
        node.args, node.target = (over.node, *over.others), IN_PLACE[node.target]
        if node.target is aten.baddbmm.out:
            node.kwargs = {"out": over.node}
        old, new = self.owner[node], self.owner[over.node]
        self.last[new] = max(self.last[new], self.last[old])
        self.owner = {n: new if o is old else o for n, o in self.owner.items()}


def _dense(x: Tensor) -> bool:
    """Whether a tensor's numbers lie side by side, in whatever order of its axes."""
    size = 1
    for stride, count in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n > 1):
        if stride != size:
            return False
        size *= count
    return True
