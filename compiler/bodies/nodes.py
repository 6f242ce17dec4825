"""Graphs of aten operators: what the rewrites of bodies ask of them, and how they cut them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


# What makes a tensor of one number out of nothing, and what passes such a tensor on.
CONSTANTS: set[Any] = {aten.ones.default, aten.zeros.default, aten.full.default}
PASSING: set[Any] = {
    aten.expand.default,
    aten.view.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.transpose.int,
}


def is_view(node: fx.Node) -> bool:
    """Whether a node costs nothing: its numbers are those of its first argument. (Torch says so of all its operators
    but one, for views that nobody writes to.)"""
    if node.target is operator.getitem:
        return is_view(argument(node))
    return node.target is aten._unsafe_view.default or bool(getattr(node.target, "is_view", False))


def argument(node: fx.Node, index: int = 0) -> fx.Node:
    """An argument that is a node."""
    found = node.args[index]
    assert isinstance(found, fx.Node)
    return found


def constant(node: Any) -> float | None:
    """The number that a node gives at all places, where it is made of that alone."""
    while isinstance(node, fx.Node) and node.target in PASSING:
        node = node.args[0]
    target = node.target if isinstance(node, fx.Node) else None
    if target in (aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default):
        return 0.0
    if target in (aten.full.default, aten.full_like.default):
        return float(node.args[1])
    return 1.0 if target in (aten.ones.default, aten.ones_like.default) else None


def value(node: fx.Node) -> Tensor:
    """What a node gives, as a tensor without numbers."""
    found: Tensor = node.meta["val"]
    return found


def shape(node: fx.Node) -> list[int]:
    return [int(n) for n in value(node).shape]


def contiguous(*nodes: fx.Node) -> bool:
    return all(value(n).is_contiguous() for n in nodes)


def called(graph: fx.Graph, target: Callable[..., Any], *args: Any) -> fx.Node:
    """A new node, with what it gives."""
    node = graph.call_function(target, args)
    node.meta["val"] = target(*fx.map_arg(args, lambda n: n.meta["val"]))
    return node


def copied(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A new node: the same numbers in one piece."""
    copy = graph.call_function(aten.clone.default, (node,), {"memory_format": torch.contiguous_format})
    copy.meta["val"] = value(node).contiguous()
    return copy


def unreal(graph: fx.Graph) -> None:
    """Let all nodes know what they give as tensors on the meta device, which operators can be called with."""
    for node in graph.nodes:
        x = node.meta.get("val")
        if isinstance(x, Tensor) and (type(x) is not Tensor or x.device.type != "meta"):
            node.meta["val"] = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def results_of(module: fx.GraphModule) -> list[Any]:
    (last,) = module.graph.find_nodes(op="output")
    return list(last.args[0])


def part(body: fx.GraphModule, inputs: Sequence[fx.Node], results: Sequence[fx.Node | None]) -> fx.GraphModule:
    """What it takes to make these nodes out of those."""
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for i, node in enumerate(inputs):
        made[node] = graph.placeholder(f"in{i}")
        made[node].meta = dict(node.meta)
    needed = ancestors([n for n in results if n is not None], set(inputs))
    for node in body.graph.nodes:
        if node in needed:
            made[node] = graph.node_copy(node, lambda n: made[n])
    graph.output([None if n is None else made[n] for n in results])
    return fx.GraphModule(body, graph)


def ancestors(
    nodes: Sequence[fx.Node], given: Collection[fx.Node], through: Callable[[fx.Node], bool] = lambda n: False
) -> set[fx.Node]:
    """These nodes and all they need, but for what is given. through: what of that is looked for all the same."""
    found: set[fx.Node] = set()
    todo = [n for n in nodes if n not in given or through(n)]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [n for n in node.all_input_nodes if n not in given or through(n)]
    return found
