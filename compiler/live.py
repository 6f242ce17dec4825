"""The gradient of a segment's loss by the graph that reading the segment has left (rule 12).

In training a segment is read with gradients anyway, so that nothing has to be run again: each segment reads its
memories through views of their weights, and the loss is differentiated with respect to these as soon as its last target
is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from nldsl.compiler.dependences import origins
from nldsl.compiler.piece import Piece
from nldsl.compiler.transforms import transformed
from torch import Tensor

from nldsl.graph import Objective

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner


@dataclass(frozen=True)
class Live:
    """A segment that was read. weights: what it reads, by memory and leaf, and no other segment does."""

    piece: Piece
    weights: Mapping[str, Tensor]

    def gradients(
        self, runner: Runner, names: Sequence[tuple[str, str]], following: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """Of the segment's loss, by memory and leaf, as data."""
        own = [f"{memory}.{leaf}" for memory, leaf in names]
        total = runner.loss.of(self.piece, following).sum()
        weights = [self.weights[name] for name in own]
        found = torch.autograd.grad(total, weights, retain_graph=True, materialize_grads=True)
        return dict(zip(own, found, strict=True))


def begun(runner: Runner, piece: Piece, learns: Sequence[Objective]) -> Live | None:
    """Prepare a segment that is about to be read. None where it has to be run again for its gradient."""
    names = list(dict.fromkeys(m for o in learns for m in o.memories))
    alone = all(o.detached and not o.when and not o.weights and o.through <= runner.segment for o in learns)
    held = any(o.hold and not set(names).isdisjoint(o.memories) for o in piece.facts.learns)
    training = torch.is_grad_enabled() and any(p.requires_grad for p in piece.parameters.values())
    if not training or not alone or held or runner.budget or not differentiable(runner, names):
        return None
    for name in names:
        if name not in piece.frame:
            piece.open(runner.graph.memories[name])
    now = {m: {leaf: _own(w) for leaf, w in piece.frame[m]["weights"].items()} for m in names}
    piece.frame |= {m: piece.frame[m] | {"weights": weights} for m, weights in now.items()}
    return Live(piece, {f"{m}.{leaf}": w for m, weights in now.items() for leaf, w in weights.items()})


def _own(weight: Tensor) -> Tensor:
    """The same weight for one segment alone. Where a call began with it, it is data."""
    return weight.view(weight.shape) if weight.requires_grad else weight.detach().requires_grad_()


def differentiable(runner: Runner, names: Iterable[str]) -> bool:
    """Whether plain autograd can differentiate a segment by the weights of these memories: outside of transforms, and
    where the weights that it begins with are all there is to them."""
    inside = transformed() or torch.is_inference_mode_enabled()
    memories = [runner.graph.memories[m] for m in names]
    starts = {o for m in memories for o in origins(m, runner.shape)} & runner.shape.running
    restart = any(m.reset_every or m.reset_when for m in memories)
    return not (torch.compiler.is_compiling() or inside or restart or starts)
