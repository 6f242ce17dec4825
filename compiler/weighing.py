"""What a tick's gradient counts for: `when` and `weighted` (rules 6 and 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import gradients, memories
from nldsl.compiler.gradients import Captured, Gradient
from nldsl.compiler.masks import LEAD, Mask, choose, factor, onto
from torch import Tensor

from nldsl.graph import Objective

if TYPE_CHECKING:
    from nldsl.compiler.piece import Frame, Piece


def active(piece: Piece, record: Objective, memory: str) -> Mask:
    """The copies of a memory for which a tick counts, [batch or 1, ticks, heads or 1]."""
    if not record.when:
        return True
    return memories.of_heads(piece.values[record.when], piece.facts.memories[memory].heads)


def factors(piece: Piece, record: Objective) -> list[Tensor]:
    return [number(piece, w) for w in record.weights]


def number(piece: Piece, value: Any) -> Tensor:
    if isinstance(value, str):
        return piece.values[value]  # type: ignore[no-any-return]
    return torch.full((1,) * LEAD, float(value), dtype=piece.machine.dtype, device=piece.clock.device)


def weighed(
    piece: Piece,
    record: Objective,
    streams: list[Captured],
    ticks: int,
    row: Frame | None,
    each: bool,
    factored: bool = False,
) -> Gradient:
    """The gradient over these ticks, `when` and `weighted` taken in; their sum, or each tick's own.
    row: the ticks' masks and factors where they are kept, else this piece's."""
    masks = row["active"] if row else {m: active(piece, record, m) for m in record.memories}
    weights = row["weights"] if row else factors(piece, record)
    if row is None and each and not weights:
        return gradients.gradient(piece, record, streams, ticks, each=True, factored=factored)
    plain = all(m is True for m in masks.values())
    own = len(record.bodies) == len(record.memories) and all(w.dim() == LEAD for w in weights)
    if own and not (weights and record.detached):  # a factor keeps its own gradients
        scale: list[Tensor | None] = []
        for i, m in enumerate(record.memories):
            s: Any = None if masks[m] is True else factor(masks[m], number(piece, 1.0))
            if weights:
                s = weights[i] if s is None else s * weights[i]
            scale.append(s)
        return gradients.gradient(piece, record, streams, ticks, scale, each, factored)
    if plain and not weights:
        return gradients.gradient(piece, record, streams, ticks, each=each, factored=factored)
    found = gradients.gradient(piece, record, streams, ticks, each=True)
    whole = {}
    for name, g in found.whole.items():
        i = next(i for i, m in enumerate(record.memories) if name.startswith(f"{m}."))
        if weights:
            g = g * onto(weights[i], g.dim())
        mask: Any = masks[record.memories[i]]
        g = g if mask is True or each else choose(mask, g, torch.zeros_like(g))
        whole[name] = g if each else g.sum(1, keepdim=True)
    return Gradient(whole, {}, found.keys)
