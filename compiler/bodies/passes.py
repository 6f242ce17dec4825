"""What inductor does to its graphs besides its own passes: imported when something is compiled."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler import matrices
from nldsl.compiler.bodies.nodes import value
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

aten = torch.ops.aten

# What gives a tensor of its own, whatever inductor makes of it.
OWN: set[Any] = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.addcmul.default,
    aten.bmm.default,
    aten.baddbmm_.default,
}


class Passes(CustomGraphPass):
    """Both passes below. inductor's cache depends on what they are."""

    def __call__(self, graph: fx.Graph) -> None:
        matrices.chosen(graph)
        summed(graph)

    def uuid(self) -> Any:
        return get_hash_for_files((matrices.__file__, __file__))


def summed(graph: fx.Graph) -> None:
    """Let a product be added to a sum where it stands, if nothing else reads that: inductor would copy it first."""
    for node in graph.find_nodes(op="call_function", target=aten.baddbmm.default):
        total = node.args[0]
        alone = total.target in OWN and len(total.users) == 1
        if alone and not node.kwargs and value(total).shape == value(node).shape and value(total).is_contiguous():
            node.target = aten.baddbmm_.default
