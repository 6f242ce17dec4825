"""How the states of a weight pass through the ticks of a chunk: the numbers, without the weights.

c[t+1] = A[t] c[t] + sum over writes b[t] (what is written at t); with P[t, s] = A[t-1] ... A[s]. They are few, and what
gates learn is a sum of many of them: they are computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from nldsl.compiler.affine import Form, Number
from nldsl.compiler.lowerings.products import products
from torch import Tensor

Terms = Mapping[str | int, Number]


class Passage:
    """names: the states. told: what each becomes at a tick. like: a tensor of their type. writes: their number."""

    def __init__(self, names: Sequence[str], told: Mapping[str, Form], ticks: int, like: Tensor, writes: int) -> None:
        self.names, self.told, self.ticks, self.like, self.writes = list(names), told, ticks, like, writes
        rows = torch.broadcast_tensors(*(self.row(told[n].terms) for n in self.names))  # type: ignore[no-untyped-call]
        self.products = products(torch.stack(rows, dim=-2))

    def line(self, c: Number) -> Tensor:
        """A coefficient [batch or 1, heads or 1, ticks]."""
        if isinstance(c, Tensor):
            line: Tensor = c.double().transpose(1, 2)
        else:
            line = torch.full((1, 1, 1), float(c), dtype=torch.float64, device=self.like.device)
        return line.expand(*line.shape[:2], self.ticks)

    def row(self, terms: Terms) -> Tensor:
        """The coefficients of the states, [..., ticks, states]."""
        lines = (self.line(terms.get(n, 0.0)) for n in self.names)
        return torch.stack(torch.broadcast_tensors(*lines), dim=-1)  # type: ignore[no-untyped-call]

    def into(self, i: int) -> Tensor | None:
        """How much of a write goes into each state at its tick, [..., ticks, states]."""
        found: dict[str | int, Number] = {n: self.told[n].terms[i] for n in self.names if i in self.told[n].terms}
        return self.row(found) if found else None

    def spread(self, form: Form) -> tuple[Tensor, dict[int, Tensor]]:
        """How much the states before the first tick, [..., ticks, states], and each write at tick s, [..., ticks,
        ticks], count for a form at tick t."""
        f = self.row(form.terms)
        carried = (f[..., :, None, :, None] * self.products[..., : self.ticks, :, :, :]).sum(-2)  # [..., t, s, states]
        seen: dict[int, Tensor] = {}
        for i in range(self.writes):
            into, now = self.into(i), form.terms.get(i)
            before = None if into is None else (carried[..., 1:, :] * into[..., None, :, :]).sum(-1)
            if now is not None:
                own = torch.diag_embed(self.line(now))
                before = own if before is None else before + own
            if before is not None:
                seen[i] = before.to(self.like.dtype)
        return carried[..., 0, :].to(self.like.dtype), seen

    def end(self, name: str) -> tuple[Tensor, dict[int, Tensor]]:
        """The same for a state after the last tick: [..., states] and [..., ticks]."""
        row = self.names.index(name)
        carried, written = self.products[..., -1, 0, row, :], self.products[..., -1, 1:, row, :]
        into = ((i, self.into(i)) for i in range(self.writes))
        rates = {i: (written * rate).sum(-1) for i, rate in into if rate is not None}
        return carried.to(self.like.dtype), {i: x.to(self.like.dtype) for i, x in rates.items()}
