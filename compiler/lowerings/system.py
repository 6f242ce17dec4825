"""What a weight answers, where that is written back to it: one triangular system per chunk (the UT form)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from nldsl.compiler.affine import is_one
from nldsl.compiler.halves import dot
from nldsl.compiler.lowerings import rates
from nldsl.compiler.lowerings.products import total_of
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.weight import Reading, Weight


def solved(weight: Weight, asked: Sequence[int]) -> list[Tensor]:
    """The readings `asked` at all ticks: y = base + (what they write, as read later on) y. Of several per tick, in the
    order of the tick, each sees what those before it made of it."""
    bases, systems = zip(*(_rows(weight, weight.readings[i], asked) for i in asked), strict=True)
    if len(asked) == 1:
        return [inverse(systems[0][0].tril(-1)) @ bases[0]]
    ticks, count = weight.lead[2], len(asked)
    rows = [torch.stack(torch.broadcast_tensors(*system), -1) for system in systems]  # type: ignore[no-untyped-call]
    whole = torch.stack(rows, -3).reshape(*weight.lead[:2], ticks * count, ticks * count)
    base = torch.stack(bases, -2).flatten(-3, -2)
    found = (inverse(whole.double().tril(-1)) @ base.double()).to(weight.dtype)
    return list(found.reshape(*found.shape[:-2], ticks, count, -1).unbind(-2))


def _rows(weight: Weight, reading: Reading, asked: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """What a reading says of what is known, and how much of each answer is in it, [B, H, ticks, ticks]."""
    alpha, seen = weight.passage.spread(reading.form)
    parts = weight.carried(reading.u, alpha)
    none = reading.u.new_zeros(*weight.lead, weight.lead[2])
    system = dict.fromkeys(asked, none)
    for i, w in enumerate(weight.writes):
        if i not in seen:
            continue
        if w.x is None:
            parts.append(weight.read_of(reading.u, w, seen[i]))
            continue
        low = None if w.answers else weight.low  # what is solved is not rounded
        inner = rates.inner(w.of_sources(seen[i]), reading.u, w.x, weight.passage.rows, low)
        if w.known is not None:
            parts.append(dot(inner, w.known, weight.low))
        for j, c in w.answers.items():
            term = inner if is_one(c) else inner * weight.line(c)[..., None, :]
            system[j] = term if system[j] is none else system[j] + term
    return total_of(parts), [*system.values()]


def inverse(strict: Tensor) -> Tensor:
    """(I - strict)^-1, for a strictly lower triangular matrix. It needs nothing of the state where its keys don't, and
    is then found for all chunks at once. In float64, as every answer is a sum of all before it."""
    eye = torch.eye(strict.shape[-1], dtype=torch.float64, device=strict.device)
    system = eye - strict
    found: Tensor = torch.linalg.solve_triangular(system, eye.expand_as(system), upper=False, unitriangular=True)
    return found.to(strict.dtype)
