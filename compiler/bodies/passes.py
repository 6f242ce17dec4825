"""What inductor does to its graphs besides its own passes: imported when something is compiled."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler import matrices
from torch import Tensor, fx
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
        return get_hash_for_files((matrices.__file__, __file__), str(matrices.AT_HAND))


def summed(graph: fx.Graph) -> None:
    """On a CPU, let a product be added to a sum where it stands, if nothing else reads that: inductor would copy it."""
    for node in graph.find_nodes(op="call_function", target=aten.baddbmm.default):
        total, *factors = node.args
        alone = total.target in OWN and len(total.users) == 1 and total not in factors
        if alone and not node.kwargs and _alike(total.meta.get("val"), node.meta.get("val")):
            node.target = aten.baddbmm_.default


def _alike(total: Any, result: Any) -> bool:
    if not isinstance(total, Tensor) or not isinstance(result, Tensor):
        return False
    return total.shape == result.shape and total.is_contiguous() and total.device.type == "cpu"
