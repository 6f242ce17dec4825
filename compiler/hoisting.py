"""What a chunk's body computes from its inputs alone is taken out of the loop, and done for all chunks at once.

Left in the loop is what needs the state that the chunk before left: a few products per chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

aten = torch.ops.aten

# They cost nothing, so what they make of a body's inputs is made where it is used.
VIEWS = {
    aten.alias.default,
    aten.expand.default,
    aten.permute.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten._unsafe_view.default,
}


@dataclass(frozen=True)
class Hoisted:
    """A body in two. early: the inputs named by their places -> results. late: all inputs, then these results -> what
    the body gives."""

    early: fx.GraphModule
    places: tuple[int, ...]
    late: fx.GraphModule

    def of_chunks(self, inputs: Sequence[Tensor], axes: Sequence[int | None]) -> list[list[Tensor]]:
        """The early results of every chunk. axes: the one of an input along which its chunks lie, None for none."""
        results = torch.vmap(self.early, in_dims=tuple(axes))(*inputs)
        return [list(chunk) for chunk in zip(*(x.unbind(0) for x in results), strict=True)]


def hoisted(body: fx.GraphModule, stateless: Collection[int]) -> Hoisted | None:
    """A body in two, None if there is nothing to take out. stateless: the places of inputs that no chunk changes."""
    nodes: list[fx.Node] = list(body.graph.nodes)
    inputs = [n for n in nodes if n.op == "placeholder"]
    known = {inputs[i] for i in stateless}
    free = set(inputs)
    for node in nodes:
        if node.op == "call_function":
            needed = node.all_input_nodes
            if all(n in known for n in needed):
                known.add(node)
            if needed and node.target in VIEWS and all(n in free for n in needed):
                free.add(node)
    results = [n for n in nodes if n in known and n not in free and any(u not in known for u in n.users)]
    if not results:
        return None
    places = tuple(sorted(stateless))
    early = _graph(body, [inputs[i] for i in places], results)
    (last,) = (n for n in nodes if n.op == "output")
    late = _graph(body, [*inputs, *results], list(last.args[0]))  # type: ignore[arg-type]
    return Hoisted(early, places, late)


def _graph(body: fx.GraphModule, inputs: Sequence[fx.Node], results: Sequence[fx.Node]) -> fx.GraphModule:
    """What it takes to make these nodes out of those."""
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for i, node in enumerate(inputs):
        made[node] = graph.placeholder(f"in{i}")
        made[node].meta = dict(node.meta)
    needed = _needed(results, set(inputs))
    for node in body.graph.nodes:
        if node in needed:
            made[node] = graph.node_copy(node, lambda n: made[n])
    graph.output([made[n] for n in results])
    return fx.GraphModule(body, graph)


def _needed(results: Sequence[fx.Node], given: set[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    todo = [n for n in results if n not in given]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [n for n in node.all_input_nodes if n not in given]
    return found
