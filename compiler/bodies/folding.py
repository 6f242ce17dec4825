"""What a body computes from nothing is computed once, and known where it is one number.

Where a rule forgets nothing, every product of its decays is 1: a weight need not be multiplied by it.
"""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.bodies.nodes import CONSTANTS
from torch import Tensor, fx

aten = torch.ops.aten
SMALL = 1 << 14  # numbers; a larger constant is left to be made


def folded(graph: fx.Graph) -> None:
    """Put a `full` in place of every tensor that is computed from no input and has one number at all places."""
    known: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or any(n not in known for n in node.all_input_nodes) or _random(node):
            continue
        made = node.meta.get("val")
        if isinstance(made, Tensor) and (made.numel() > SMALL or made.device.type == "meta"):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
        known[node] = node.target(*args, **kwargs)
    for node, value in known.items():
        if node.target in CONSTANTS or all(user in known for user in node.users) or not _one_number(value):
            continue
        with graph.inserting_after(node):
            made = graph.call_function(
                aten.full.default,
                ([*value.shape], value.reshape(-1)[0].item()),
                {"dtype": value.dtype, "device": value.device},
            )
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
    graph.eliminate_dead_code()


def _random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _one_number(value: Any) -> bool:
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point or not value.numel():
        return False
    return bool((value == value.reshape(-1)[0]).all())
