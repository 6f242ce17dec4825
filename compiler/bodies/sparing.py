"""What need not be kept for a backward pass, as it is cheap to make again from what is kept.

Memory that a chunk keeps is touched for the first time in every training step, and read when it has long left all
caches: to multiply two numbers again takes less time than to fetch their product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nldsl.compiler.bodies.nodes import is_view
from torch import fx

aten = torch.ops.aten

CHEAP = {
    *(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.mul.Tensor, aten.mul.Scalar, aten.neg.default),
    *(aten.div.Tensor, aten.div.Scalar, aten.addcmul.default, aten.where.self, aten.gt.Scalar, aten.full.default),
    *(aten.gelu.default, aten.gelu_backward.default, aten.silu.default, aten.sigmoid.default, aten.tanh.default),
    *(aten.exp.default, aten.sqrt.default, aten._to_copy.default),
    *(aten.cat.default, aten.stack.default, aten.constant_pad_nd.default),
}


def sparing(kept: Sequence[fx.Node], inputs: Sequence[fx.Node]) -> list[fx.Node]:
    """Those of the nodes, in the order of their graph, that the others and the inputs do not make cheaply."""
    left = set(kept)
    at_hand = left | set(inputs)
    for node in reversed(kept):
        at_hand.remove(node)
        if node.target in CHEAP and all(_known(n, at_hand) for n in node.all_input_nodes):
            left.remove(node)
        else:
            at_hand.add(node)
    return [n for n in kept if n in left]


def _known(node: fx.Node, at_hand: set[fx.Node]) -> bool:
    """Whether it is one of these, seen in whatever way."""
    return node in at_hand or (is_view(node) and all(_known(n, at_hand) for n in node.all_input_nodes))
