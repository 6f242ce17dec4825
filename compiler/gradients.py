"""Inner gradients: one `torch.func.grad` over batched weights (rule 6).

Every copy of a memory (one per sequence and head) has its own objective, so the gradient of their sum is each copy's
own. Where each tick's gradient is wanted by itself, every tick gets its own copy of the weights; for a matrix that is
used once, as `x @ w`, it is enough to have x and the gradient of `x @ w`, whose outer product it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import memories
from nldsl.compiler.masks import LEAD, widened
from torch import Tensor

from nldsl.graph import Body, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece

Weights = dict[str, Tensor]  # `memory.leaf` -> [batch, ticks or 1, heads, *shape]
Captured = Mapping[str, Tensor]


@dataclass(frozen=True)
class Gradient:
    """whole: gradients by weight. factors: those of matrices as (x, d), to be multiplied. keys: x by weight."""

    whole: Weights
    factors: dict[str, tuple[Tensor, Tensor]]
    keys: Weights


def captured(piece: Piece, learn: Objective) -> list[Captured]:
    """The streams that each of the learn's objectives reads."""
    return [{p.id: piece.values[p.stream] for p in b.inputs} for b in learn.bodies]


def matrices(learn: Objective) -> tuple[str, ...]:
    """The weights whose gradient is an outer product."""
    return tuple(f"{m}.{leaf}" for b in learn.bodies for m, leaf, _ in b.keys)


def gradient(
    piece: Piece,
    learn: Objective,
    streams: Sequence[Captured],
    ticks: int,
    scale: Sequence[Tensor | None] = (),
    each: bool = False,
    factored: bool = False,
) -> Gradient:
    """The gradient of the objectives' sum over these ticks, each times its scale [batch, ticks, heads].

    each: every tick's own. factored: those of matrices as their two factors.
    """
    weights = {
        f"{m}.{leaf.name}": memories.anchored(piece, learn, m, leaf.name)
        for m in learn.memories
        for leaf in piece.facts.memories[m].leaves
    }
    apart = set(matrices(learn)) if factored else set()
    shapes = {f"{m}.{leaf}": _out(b, key, m, leaf) for b in learn.bodies for m, leaf, key in b.keys} if factored else {}
    variables: Weights = {}
    for name, w in weights.items():
        lead = (w.shape[0], ticks if each else 1, w.shape[2])
        variables[name] = w.new_zeros(*lead, shapes[name]) if name in apart else widened(w, lead)
    names = list(variables)

    def total(given: tuple[Tensor, ...]) -> tuple[Tensor, Weights]:
        own = dict(zip(names, given, strict=True))
        value, keys = torch.zeros((), dtype=piece.machine.dtype, device=piece.clock.device), {}
        for i, (body, inputs) in enumerate(zip(learn.bodies, streams, strict=True)):
            values = evaluate(piece, learn, body, inputs, weights, own, apart, ticks)
            result = values[body.results[0]]
            result = result.expand(piece.batch, ticks, -1)
            value = value + (result if not scale or scale[i] is None else result * scale[i]).sum()
            keys.update({f"{m}.{leaf}": values[key] for m, leaf, key in body.keys})
        return value, keys

    with torch.set_grad_enabled(torch.is_grad_enabled() and not learn.detached):
        found, keys = torch.func.grad(total, has_aux=True)(tuple(variables.values()))
    if learn.detached:
        found, keys = tuple(g.detach() for g in found), {n: k.detach() for n, k in keys.items()}
    grads = dict(zip(names, found, strict=True))
    factors = {n: (_lead(keys[n], grads[n]), grads.pop(n)) for n in names if n in apart}
    return Gradient(grads, factors, keys)


def _lead(key: Tensor, d: Tensor) -> Tensor:
    return widened(key, d.shape[:LEAD])


def _out(body: Body, key: str, memory: str, leaf: str) -> int:
    """The number of columns of a matrix."""
    for s in body.records:
        if isinstance(s, Stream) and s.op == "weight" and s.mode == "self" and (s.memory, s.leaf) == (memory, leaf):
            return int(s.shape[-1])
    raise KeyError(leaf)


def evaluate(
    piece: Piece,
    learn: Objective,
    body: Body,
    inputs: Captured,
    weights: Weights,
    own: Weights,
    apart: set[str],
    ticks: int,
) -> dict[str, Any]:
    """An objective's body. `self` reads the variables; that of a matrix set apart is a shift of its product."""
    inner = piece.within(body, dict(inputs))
    inner.ticks = ticks
    if ticks != piece.ticks:
        inner.clock = piece.clock[:, -1:] + torch.arange(1 - ticks, 1, device=piece.clock.device).reshape(1, -1, 1)
    shifted: dict[str, str] = {}
    for record in body.records:
        assert isinstance(record, Stream)
        name = f"{record.memory}.{record.leaf}"
        if record.op == "weight" and record.mode == "self":
            inner.values[record.id] = weights[name] if name in apart else own[name]
            if name in apart:
                shifted[record.id] = name
        elif record.op == "weight" and record.mode == "anchor":
            inner.values[record.id] = memories.anchored(piece, learn, record.memory, record.leaf)
        elif record.op == "weight":
            inner.values[record.id] = memories.weight(piece, record.memory, record.leaf, record.mode)
        elif record.op == "matmul" and str(record.args[1]) in shifted:
            args = [inner.values[a] for a in record.args if isinstance(a, str)]
            product = inner.applied(record, args)
            inner.values[record.id] = product + own[shifted[str(record.args[1])]]
        else:
            inner.values[record.id] = inner.stream(record)
    return inner.values
