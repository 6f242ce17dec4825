"""Results of a body to which no gradient comes, as a rule: what is handed to the next chunk and not used by it.

A memory that a learn holds is handed on as it was read; its gradient would be zeros, made and added at every chunk.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import fx

aten = torch.ops.aten


def silent(handed: Mapping[int, int], order: Sequence[int], heard: Collection[int]) -> set[int]:
    """The results that the next chunk takes without a gradient. handed: which result an input is then, by their places;
    order: as which of its different results a body gives a result; heard: the inputs with gradients."""
    loud = {order[o] for i, o in handed.items() if i in heard}
    return {order[o] for o in handed.values()} - loud


def without(backward: fx.GraphModule, tangents: Iterable[fx.Node]) -> fx.GraphModule:
    """A backward pass where these gradients of results are zeros, and no inputs any more."""
    names = {node.name for node in tangents}
    graph = copy.deepcopy(backward.graph)
    given = graph.find_nodes(op="placeholder")
    for node in given:
        if node.name in names:
            x = node.meta["val"]
            with graph.inserting_after(given[-1]):
                zeros = graph.call_function(aten.new_zeros.default, (given[0], [*x.shape]), {"dtype": x.dtype})
            zeros.meta = dict(node.meta)
            node.replace_all_uses_with(zeros)
            graph.erase_node(node)
    return fx.GraphModule(backward, graph)
