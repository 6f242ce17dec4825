"""One weight over the ticks of a chunk, where what it becomes is affine in what it was.

With c[t] for the weight and its optimizer's states before tick t, a tick makes c[t+1] = A[t] c[t] + sum over its writes
b[t] x[t] r[t]^T, A and b numbers. So with P[t, s] = A[t-1] ... A[s] what rows u[t] read of it is

    y[t] = f[t] P[t, 0] (u[t] c[0]) + sum over s <= t of g[t, s] (u[t] x[s]) r[s],

two products for all ticks of a chunk (the dual form): no tick has a weight of its own. Where an r is itself what the
weight answers (delta rules, erasure), the answers solve one triangular system (the UT form).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from nldsl.compiler.affine import Form, NotAffine, Number
from nldsl.compiler.lowerings.products import products
from torch import Tensor


@dataclass
class Write:
    """x r^T at every tick, r = known + sum of coefficient * answer; or a whole gradient [batch, ticks, heads, *shape].
    x: [B, H, T, n], known and r: [B, H, T, m]."""

    x: Tensor | None
    known: Tensor | None
    answers: Mapping[int, Number]
    r: Tensor | None = None


@dataclass
class Reading:
    """What rows u [B, H, T, n] are multiplied by at their tick."""

    u: Tensor
    form: Form
    value: Tensor | None = None


class Weight:
    """A weight [batch, 1, heads, *shape] over `ticks` ticks. key: the rows that its gradient belongs to. now: what the
    weight "w" and the states of its rules are, as far as the tick is told. kept: what is left of states of before.
    anew: the states that begin at the first tick; left: those that begin anew after the last one."""

    def __init__(self, value: Tensor, ticks: int) -> None:
        self.shape, self.dtype, self.device = tuple(value.shape[3:]), value.dtype, value.device
        self.lead = (value.shape[0], value.shape[2], ticks)
        self.states: dict[str, Tensor] = {"w": value}
        self.now: dict[str, Form] = {"w": Form({"w": 1.0})}
        self.writes: list[Write] = []
        self.readings: list[Reading] = []
        self.key: Tensor = value.new_zeros(())
        self.kept: dict[str, Tensor] = {}
        self.anew: set[str] = set()
        self.left: set[str] = set()
        self._products: Tensor | None = None

    # The tick, told once

    def keep(self, name: str, value: Tensor | None = None) -> None:
        """One more state beside the weight. value: where it starts, else what was kept of it, else 0."""
        if name not in self.states:
            found = value if value is not None else self.kept.get(name)
            self.states[name] = torch.zeros_like(self.states["w"]) if found is None else found
            self.now[name] = Form({name: 1.0})

    def write(self, x: Tensor | None, known: Tensor | None, answers: Mapping[int, Number]) -> int:
        self.writes.append(Write(x, known, answers))
        return len(self.writes) - 1

    def read(self, u: Tensor, form: Form) -> int:
        for i, reading in enumerate(self.readings):
            if reading.u is u and _same(reading.form.terms, form.terms):
                return i
        self.readings.append(Reading(u, form))
        return len(self.readings) - 1

    # All ticks

    def settle(self) -> None:
        """Find what was written at every tick."""
        self._products = self._all_products()
        asked = self.asked()
        if asked is not None:
            self._solve(asked)
        for w in self.writes:
            w.r = self._written(w)

    def asked(self) -> int | None:
        """The reading that is written back. Raises NotAffine where that is more than one triangular system."""
        asked = {i for w in self.writes for i in w.answers}
        if not asked:
            return None
        if len(asked) > 1:
            raise NotAffine("what it is asked for at two places is written back to it")
        (index,) = asked
        if any(w.answers and i in self.readings[index].form.terms for i, w in enumerate(self.writes)):
            raise NotAffine("it is asked for what it is being told")
        return index

    def _written(self, w: Write) -> Tensor:
        parts = [] if w.known is None else [w.known]
        for i, c in w.answers.items():
            value = self.readings[i].value
            assert value is not None
            parts.append(value if is_one(c) else self._line(c)[..., None] * value)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _solve(self, index: int) -> None:
        """The answers that are written back: y = base + (what they write, as read at earlier ticks) y."""
        reading = self.readings[index]
        alpha, seen = self._spread(reading.form)
        right = self._carried(reading.u, alpha)
        system: Tensor | None = None
        for i, w in enumerate(self.writes):
            if i not in seen or w.x is None:
                continue
            inner = seen[i] * (reading.u @ w.x.mT)
            if w.known is not None:
                right = right + inner @ w.known
            for c in w.answers.values():
                term = inner if is_one(c) else inner * self._line(c)[..., None, :]
                system = term if system is None else system + term
        assert system is not None
        reading.value = solved(system.tril(-1), right)

    def answer(self, u: Tensor, form: Form) -> Tensor:
        """What rows u [B, H, T, n] are multiplied by at their tick, [B, H, T, m]."""
        index = self.read(u, form)
        reading = self.readings[index]
        if reading.value is None:
            alpha, seen = self._spread(form)
            total = self._carried(u, alpha)
            for i, w in enumerate(self.writes):
                if i in seen:
                    assert w.x is not None and w.r is not None
                    total = total + (seen[i] * (u @ w.x.mT)) @ w.r
            reading.value = total
        return reading.value

    def whole(self, form: Form) -> Tensor:
        """The weight itself at every tick, [batch, ticks, heads, *shape]."""
        alpha, seen = self._spread(form)
        total = self._carried_whole(alpha)
        for i, w in enumerate(self.writes):
            if i in seen:
                total = total + self._summed(seen[i], w)
        return total.reshape(*self.lead, *self.shape).transpose(1, 2)

    def after(self) -> dict[str, Tensor]:
        """The weight and its states after the last tick, [batch, 1, heads, *shape]."""
        assert self._products is not None
        carried, written = self._products[..., -1, 0, :, :], self._products[..., -1, 1:, :, :]
        names, found = list(self.states), {}
        for row, name in enumerate(names):
            if name in self.left:
                found[name] = torch.zeros_like(self.states[name])
                continue
            if self._unchanged(name):
                found[name] = self.states[name]
                continue
            total: Tensor | None = None
            for column, other in enumerate(names):
                if other not in self.anew and self._reaches(name, other):
                    part = carried[..., row, column].reshape(*carried.shape[:-2], *(1,) * len(self.shape))
                    part = part * self.states[other].squeeze(1)
                    total = part if total is None else total + part
            found[name] = self._with_writes(total, written, row, names).unsqueeze(1)
        return found

    # Inside

    def _with_writes(self, total: Tensor | None, written: Tensor, row: int, names: list[str]) -> Tensor:
        """What is left of the old, and what all ticks wrote: one product for all writes with the same x."""
        sums: dict[int, tuple[Tensor, Tensor]] = {}
        for i, w in enumerate(self.writes):
            into = self._into(i, names)
            if into is None:
                continue
            rate = (written[..., row, :] * into).sum(-1)
            assert w.r is not None
            if w.x is None:
                part = self._summed(rate[..., None, :], w).reshape(*self.lead[:2], *self.shape)
                total = part if total is None else total + part
                continue
            r = rate[..., None] * w.r
            sums[id(w.x)] = (w.x, sums[id(w.x)][1] + r if id(w.x) in sums else r)
        for x, r in sums.values():
            if total is None:
                total = x.mT @ r
            else:  # one pass over the weight less than a product and a sum
                rows, right = x.mT.expand(*self.lead[:2], -1, -1), r.expand(*self.lead, -1)
                whole = total.expand(*self.lead[:2], *self.shape)
                total = torch.baddbmm(whole.flatten(0, 1), rows.flatten(0, 1), right.flatten(0, 1))
                total = total.reshape(whole.shape)
        assert total is not None
        return total.expand(*self.lead[:2], *self.shape)

    def _line(self, c: Number) -> Tensor:
        """A coefficient [batch or 1, heads or 1, ticks]."""
        if isinstance(c, Tensor):
            line: Tensor = c.to(self.dtype).transpose(1, 2)
        else:
            line = torch.full((1, 1, 1), float(c), dtype=self.dtype, device=self.device)
        return line.expand(*line.shape[:2], self.lead[2])

    def _row(self, terms: Mapping[str | int, Number], names: list[str]) -> Tensor:
        """The coefficients of the states, [..., ticks, states]."""
        return torch.stack(torch.broadcast_tensors(*(self._line(terms.get(n, 0.0)) for n in names)), dim=-1)  # type: ignore[no-untyped-call]

    def _into(self, i: int, names: list[str]) -> Tensor | None:
        """How much of a write goes into each state at its tick, [..., ticks, states]."""
        into: dict[str | int, Number] = {n: self.now[n].terms[i] for n in names if i in self.now[n].terms}
        return self._row(into, names) if into else None

    def _all_products(self) -> Tensor:
        names = list(self.states)
        rows = torch.broadcast_tensors(*(self._row(self.now[n].terms, names) for n in names))  # type: ignore[no-untyped-call]
        return products(torch.stack(rows, dim=-2))

    def _spread(self, form: Form) -> tuple[Tensor, dict[int, Tensor]]:
        """How much the states before the first tick, [..., ticks, states], and each write at tick s, [..., ticks,
        ticks], count for a form at tick t."""
        assert self._products is not None
        names, ticks = list(self.states), self.lead[2]
        f = self._row(form.terms, names)
        carried = (f[..., :, None, :, None] * self._products[..., :ticks, :, :, :]).sum(-2)  # [..., t, s, states]
        seen: dict[int, Tensor] = {}
        for i in range(len(self.writes)):
            into = self._into(i, names)
            before = None if into is None else (carried[..., 1:, :] * into[..., None, :, :]).sum(-1)
            now = form.terms.get(i)
            if now is not None:
                own = torch.diag_embed(self._line(now))
                before = own if before is None else before + own
            if before is not None:
                seen[i] = before
        return carried[..., 0, :], seen

    def _carried(self, u: Tensor, alpha: Tensor) -> Tensor:
        """What rows read of the states before the first tick."""
        total: Tensor | None = None
        for column, (name, state) in enumerate(self.states.items()):
            if name not in self.anew and self._reaches("w", name):
                part = (alpha[..., column, None] * u) @ state.squeeze(1)
                total = part if total is None else total + part
        assert total is not None
        return total

    def _carried_whole(self, alpha: Tensor) -> Tensor:
        total: Tensor | None = None
        for column, (name, state) in enumerate(self.states.items()):
            if name in self.anew or not self._reaches("w", name):
                continue
            part = alpha[..., column, None] * state.reshape(*self.lead[:2], 1, -1)
            total = part if total is None else total + part
        assert total is not None
        return total.expand(*self.lead, -1)

    def _summed(self, rates: Tensor, w: Write) -> Tensor:
        """[..., rows, ticks] times what was written, each as one row: [B, H, rows, numbers]."""
        assert w.r is not None
        if w.x is not None:
            ticks = w.x.unsqueeze(-1) * w.r.unsqueeze(-2)
            return rates @ ticks.flatten(3)
        return rates @ w.r.transpose(1, 2).reshape(*self.lead, -1)

    def _unchanged(self, name: str) -> bool:
        return set(self.now[name].terms) == {name} and is_one(self.now[name].terms[name])

    def _reaches(self, name: str, other: str) -> bool:
        """Whether a state ever takes something in of another."""
        found, todo = {name}, [name]
        while todo:
            for term in self.now[todo.pop()].terms:
                if isinstance(term, str) and term not in found:
                    found.add(term)
                    todo.append(term)
        return other in found


def _same(a: Mapping[str | int, Number], b: Mapping[str | int, Number]) -> bool:
    return a.keys() == b.keys() and all(
        a[n] is b[n] or (isinstance(a[n], float) and isinstance(b[n], float) and a[n] == b[n]) for n in a
    )


def is_one(c: Number) -> bool:
    return isinstance(c, float) and c == 1.0


def solved(strict: Tensor, right: Tensor) -> Tensor:
    """(I - strict)^-1 right, for a strictly lower triangular matrix. Solved transposed: LAPACK stores columns, and so
    the result, and its gradient, lie in memory row by row like everything else."""
    eye = torch.eye(strict.shape[-1], dtype=strict.dtype, device=strict.device)
    system = (eye - strict).mT
    found: Tensor = torch.linalg.solve_triangular(system, right.mT, upper=True, left=False, unitriangular=True).mT
    return found
