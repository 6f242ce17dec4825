"""How the states of a weight pass through the ticks of a chunk: the numbers, without the weights.

c[t+1] = A[t] c[t] + sum over writes b[t] (what is written at t); with P[t, s] = A[t-1] ... A[s]. What is of each tick
is in float64, for what a gate learns is a sum over many; what is of two ticks is in the states' own type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from nldsl.compiler.affine import Form, Number
from nldsl.compiler.lowerings.products import products, total_of
from nldsl.compiler.masks import LEAD
from torch import Tensor

Terms = Mapping[str | int, Number]


class Passage:
    """names: the states. told: what each becomes at a tick. like: a tensor of their type. writes: their number. rows:
    whether every row of the weight has numbers of its own; then all that is given has an axis of rows, [B, H, n or 1,
    ...], before those of ticks."""

    def __init__(
        self, names: Sequence[str], told: Mapping[str, Form], ticks: int, like: Tensor, writes: int, rows: bool
    ) -> None:
        self.names, self.told, self.ticks, self.like, self.writes = list(names), told, ticks, like, writes
        self.rows = rows
        steps = {(n, str(m)): self.line(c) for n in self.names for m, c in told[n].terms.items() if self.counts(m, c)}
        lines = torch.broadcast_tensors(*steps.values())  # type: ignore[no-untyped-call]
        self.products = products(self.names, dict(zip(steps, lines, strict=True)), ticks, like.dtype)

    def counts(self, term: str | int, c: Number) -> bool:
        """Whether a term of a form is one of the states, and there at all."""
        return term in self.names and not _is(c, 0.0)

    def line(self, c: Number) -> Tensor:
        """A coefficient [batch or 1, heads or 1, (n or 1,) ticks]."""
        line = line_of(c, self.like.device)
        if self.rows and line.dim() == LEAD:
            line = line.unsqueeze(-2)
        return line.expand(*line.shape[:-1], self.ticks)

    def spread(self, form: Form) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
        """How much each state before the first tick, [..., ticks], and each write at tick s, [..., ticks, ticks], count
        for a form at tick t; those that don't are left out."""
        carried: dict[str, Tensor] = {}
        written: dict[str, Tensor] = {}
        for name in self.names:
            terms = [
                (self.products[str(row), name], c)
                for row, c in form.terms.items()
                if self.counts(row, c) and (row, name) in self.products
            ]
            if terms:
                carried[name] = self.plain(total_of(_times(p.start, c, self.line(c)) for p, c in terms))
                written[name] = total_of(_times(p.seen, c, self.plain(self.line(c))[..., None]) for p, c in terms)
        seen: dict[int, Tensor] = {}
        for i in range(self.writes):
            parts = [
                _times(written[name], c, self.plain(self.line(c))[..., None, :])
                for name, c in self.into(i).items()
                if name in written
            ]
            if i in form.terms:
                parts.append(torch.diag_embed(self.line(form.terms[i])))
            if parts:
                seen[i] = self.plain(total_of(parts))
        return carried, seen

    def end(self, name: str) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
        """The same for a state after the last tick: [...] and [..., ticks]."""
        rows = {other: p for (row, other), p in self.products.items() if row == name}
        rates: dict[int, Tensor] = {}
        for i in range(self.writes):
            parts = [_times(rows[n].written, c, self.line(c)) for n, c in self.into(i).items() if n in rows]
            if parts:
                rates[i] = self.plain(total_of(parts))
        return {other: self.plain(p.left.squeeze(-1)) for other, p in rows.items()}, rates

    def into(self, i: int) -> dict[str, Number]:
        """How much of a write goes into each state at its tick."""
        return {n: self.told[n].terms[i] for n in self.names if i in self.told[n].terms}

    def plain(self, x: Tensor) -> Tensor:
        """In the states' own type."""
        return x.to(self.like.dtype)


def line_of(c: Number, device: torch.device) -> Tensor:
    """A coefficient with its ticks last, [batch or 1, heads or 1, (n,) ticks or 1]."""
    if isinstance(c, Tensor):
        return c.double().movedim(1, -1)
    return torch.full((1, 1, 1), float(c), dtype=torch.float64, device=device)


def _is(c: Number, value: float) -> bool:
    return isinstance(c, float | int) and c == value


def _times(x: Tensor, c: Number, line: Tensor) -> Tensor:
    return x if _is(c, 1.0) else x * line
