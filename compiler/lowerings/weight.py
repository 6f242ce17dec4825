"""One weight over the ticks of a chunk, where what it becomes is affine in what it was.

With c[t] for the weight and its optimizer's states before tick t, a tick makes c[t+1] = A[t] c[t] + sum over its writes
b[t] x[t] r[t]^T, A and b numbers. So with P[t, s] = A[t-1] ... A[s] what rows u[t] read of it is

    y[t] = f[t] P[t, 0] (u[t] c[0]) + sum over s <= t of g[t, s] (u[t] x[s]) r[s],

two products for all ticks of a chunk (the dual form): no tick has a weight of its own. Where an r is itself what the
weight answers (delta rules, erasure), the answers solve one triangular system (the UT form).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from nldsl.compiler.affine import Form, NotAffine, Number
from nldsl.compiler.lowerings.passage import Passage, Terms
from nldsl.compiler.lowerings.products import total_of
from torch import Tensor


@dataclass
class Write:
    """x r^T at every tick, r = known + sum of coefficient * answer; or a whole gradient [batch, ticks, heads, *shape].
    x: [B, H, T, n], known and r: [B, H, T, m]. band: [ticks, sources], where a tick writes several sources at once."""

    x: Tensor | None
    known: Tensor | None
    answers: Mapping[int, Number]
    band: Tensor | None = None
    r: Tensor | None = None

    def of_sources(self, rates: Tensor) -> Tensor:
        """Rates of ticks [..., ticks] as rates of what they write."""
        return rates if self.band is None else rates @ self.band


@dataclass
class Reading:
    """What rows u [B, H, T, n] are multiplied by at their tick."""

    u: Tensor
    form: Form
    value: Tensor | None = None


class Weight:
    """A weight [batch, 1, heads, *shape] over `ticks` ticks. key: the rows that its gradient belongs to. now: what the
    weight "w" and the states of its rules are, as far as the tick is told. kept: what is left of states of before.
    anew: the states that begin at the first tick; left: those that begin anew after the last one. mapped: the states
    that something other than a sum is made of."""

    passage: Passage

    def __init__(self, value: Tensor, ticks: int) -> None:
        self.shape, self.dtype, self.device = tuple(value.shape[3:]), value.dtype, value.device
        self.lead = (value.shape[0], value.shape[2], ticks)
        self.states: dict[str, Tensor] = {"w": value}
        self.now: dict[str, Form] = {"w": Form({"w": 1.0})}
        self.writes: list[Write] = []
        self.readings: list[Reading] = []
        self.key: Tensor | None = None
        self.kept: dict[str, Tensor] = {}
        self.anew: set[str] = set()
        self.left: set[str] = set()
        self.mapped: dict[str, Form] = {}

    # The tick, told once

    def keep(self, name: str, value: Tensor | None = None) -> None:
        """One more state beside the weight. value: where it starts, else what was kept of it, else 0."""
        if name not in self.states:
            found = value if value is not None else self.kept.get(name)
            self.states[name] = torch.zeros_like(self.states["w"]) if found is None else found
            self.now[name] = Form({name: 1.0})

    def write(
        self, x: Tensor | None, known: Tensor | None, answers: Mapping[int, Number], band: Tensor | None = None
    ) -> int:
        self.writes.append(Write(x, known, answers, band))
        return len(self.writes) - 1

    def read(self, u: Tensor, form: Form) -> int:
        for i, reading in enumerate(self.readings):
            if reading.u is u and _same(reading.form.terms, form.terms):
                return i
        self.readings.append(Reading(u, form))
        return len(self.readings) - 1

    def already(self, form: Form) -> Tensor:
        """A form of states that no longer change at this tick, over all ticks: [batch, ticks, heads, *shape]. Raises
        NotAffine where it needs the weight itself, or what that answers."""
        names = self._reached(form.terms)
        terms = [*form.terms, *(t for n in names for t in self.now[n].terms)]
        if "w" in names or any(self.writes[t].answers for t in terms if isinstance(t, int)):
            raise NotAffine("a map of the running weight")
        self.mapped |= {n: self.now[n] for n in names}
        names = names or ["w"]  # of what is written at the tick alone
        return self._whole(form, Passage(names, self.now, self.lead[2], self.states["w"], len(self.writes)))

    # All ticks

    def settle(self) -> None:
        """Find what was written at every tick."""
        asked = self.asked()
        self.passage = Passage([*self.states], self.now, self.lead[2], self.states["w"], len(self.writes))
        if asked is not None:
            self._solve(self.readings[asked])
        for w in self.writes:
            w.r = self._written(w)

    def asked(self) -> int | None:
        """The reading that is written back. Raises NotAffine where that is more than one triangular system."""
        if any(self.now[n] is not form for n, form in self.mapped.items()):
            raise NotAffine("a state changes after it was used")
        asked = {i for w in self.writes for i in w.answers}
        if not asked:
            return None
        if len(asked) > 1:
            raise NotAffine("what it is asked for at two places is written back to it")
        (index,) = asked
        if any(w.answers and i in self.readings[index].form.terms for i, w in enumerate(self.writes)):
            raise NotAffine("it is asked for what it is being told")
        return index

    def answer(self, u: Tensor, form: Form) -> Tensor:
        """What rows u [B, H, T, n] are multiplied by at their tick, [B, H, T, m]."""
        reading = self.readings[self.read(u, form)]
        if reading.value is None:
            alpha, seen = self.passage.spread(form)
            parts = self._carried(u, alpha)
            for i, w in enumerate(self.writes):
                if i in seen:
                    assert w.x is not None and w.r is not None
                    parts.append((w.of_sources(seen[i]) * (u @ w.x.mT)) @ w.r)
            reading.value = total_of(parts)
        return reading.value

    def whole(self, form: Form) -> Tensor:
        """The weight itself at every tick, [batch, ticks, heads, *shape]."""
        return self._whole(form, self.passage)

    def after(self) -> dict[str, Tensor]:
        """The weight and its states after the last tick, [batch, 1, heads, *shape]."""
        return {name: self._after(name) for name in self.states}

    # Inside

    def _solve(self, reading: Reading) -> None:
        """The answers that are written back: y = base + (what they write, as read at earlier ticks) y."""
        alpha, seen = self.passage.spread(reading.form)
        parts = self._carried(reading.u, alpha)
        system: Tensor | None = None
        for i, w in enumerate(self.writes):
            if i not in seen or w.x is None:
                continue
            inner = w.of_sources(seen[i]) * (reading.u @ w.x.mT)
            if w.known is not None:
                parts.append(inner @ w.known)
            for c in w.answers.values():
                term = inner if is_one(c) else inner * self.passage.line(c)[..., None, :].to(inner.dtype)
                system = term if system is None else system + term
        assert system is not None
        reading.value = inverse(system.tril(-1)) @ total_of(parts)

    def _written(self, w: Write) -> Tensor:
        parts = [] if w.known is None else [w.known]
        for i, c in w.answers.items():
            value = self.readings[i].value
            assert value is not None
            parts.append(value if is_one(c) else self.passage.line(c)[..., None].to(value.dtype) * value)
        return total_of(parts)

    def _carried(self, u: Tensor, alpha: Mapping[str, Tensor]) -> list[Tensor]:
        """What rows read of the states before the first tick."""
        carried = [n for n in alpha if self._carries("w", n)]
        return [(alpha[n][..., None] * u) @ self.states[n].squeeze(1) for n in carried]

    def _whole(self, form: Form, passage: Passage) -> Tensor:
        alpha, seen = passage.spread(form)
        parts = [
            alpha[name][..., None] * self.states[name].reshape(*self.lead[:2], 1, -1)
            for name in alpha
            if any(self._carries(str(term), name) for term in form.terms if term in passage.told)
        ]
        parts += [self._summed(rates, self.writes[i]) for i, rates in seen.items()]
        return total_of(parts).expand(*self.lead, -1).reshape(*self.lead, *self.shape).transpose(1, 2)

    def _after(self, name: str) -> Tensor:
        if name in self.left:
            return torch.zeros_like(self.states[name])
        if set(self.now[name].terms) == {name} and is_one(self.now[name].terms[name]):
            return self.states[name]
        alpha, written = self.passage.end(name)
        rest = (1,) * len(self.shape)
        parts = [
            alpha[other].reshape(*alpha[other].shape, *rest) * self.states[other].squeeze(1)
            for other in alpha
            if self._carries(name, other)
        ]
        products: dict[int, tuple[Tensor, Tensor]] = {}  # one for all writes with the same x
        for i, rates in written.items():
            w = self.writes[i]
            r = w.r if w.r is not None else w.known
            assert r is not None
            if w.x is None:
                parts.append(self._summed(rates[..., None, :], w).reshape(*self.lead[:2], *self.shape))
                continue
            row = w.of_sources(rates[..., None, :]).transpose(-1, -2) * r
            products[id(w.x)] = (w.x, products[id(w.x)][1] + row if id(w.x) in products else row)
        total = total_of(parts).expand(*self.lead[:2], *self.shape) if parts else None
        for x, r in products.values():
            total = self._added(total, x, r)
        assert total is not None
        return total.expand(*self.lead[:2], *self.shape).unsqueeze(1)

    def _added(self, total: Tensor | None, x: Tensor, r: Tensor) -> Tensor:
        """total + x^T r, with one pass over the weight less than a product and a sum."""
        if total is None:
            return x.mT @ r
        rows, right = x.mT.expand(*self.lead[:2], -1, -1), r.expand(*self.lead[:2], -1, -1)
        return torch.baddbmm(total.flatten(0, 1), rows.flatten(0, 1), right.flatten(0, 1)).reshape(total.shape)

    def _summed(self, rates: Tensor, w: Write) -> Tensor:
        """[..., rows, ticks] times what was written, each as one row: [B, H, rows, numbers]."""
        r, rates = w.r if w.r is not None else w.known, w.of_sources(rates)
        assert r is not None
        if w.x is not None:
            return rates @ (w.x.unsqueeze(-1) * r.unsqueeze(-2)).flatten(3)
        return rates @ r.transpose(1, 2).reshape(*r.shape[:1], r.shape[2], r.shape[1], -1)

    def _carries(self, name: str, other: str) -> bool:
        """Whether something of a state before the first tick is left in another at a later one."""
        return other not in self.anew and other in self._reached([name])

    def _reached(self, terms: Iterable[str | int]) -> list[str]:
        """All states that these take something in of, at any tick."""
        found: list[str] = []
        todo = [t for t in terms if isinstance(t, str)]
        while todo:
            name = todo.pop()
            if name not in found:
                found.append(name)
                todo += [t for t in self.now[name].terms if isinstance(t, str)]
        return found


def _same(a: Terms, b: Terms) -> bool:
    return a.keys() == b.keys() and all(
        a[n] is b[n] or (isinstance(a[n], float) and isinstance(b[n], float) and a[n] == b[n]) for n in a
    )


def is_one(c: Number) -> bool:
    return isinstance(c, float) and c == 1.0


def inverse(strict: Tensor) -> Tensor:
    """(I - strict)^-1, for a strictly lower triangular matrix. It needs nothing of the state where its keys don't, and
    is then found for all chunks at once. In float64, as every answer is a sum of all before it."""
    eye = torch.eye(strict.shape[-1], dtype=torch.float64, device=strict.device)
    system = eye - strict
    found: Tensor = torch.linalg.solve_triangular(system, eye.expand_as(system), upper=False, unitriangular=True)
    return found.to(strict.dtype)
