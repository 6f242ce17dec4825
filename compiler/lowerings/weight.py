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
from nldsl.compiler.affine import Answer, Form, NotAffine, Number, is_one
from nldsl.compiler.halves import dot, pays
from nldsl.compiler.lowerings import rates, system
from nldsl.compiler.lowerings.passage import Passage, Terms, line_of
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

    def of_sources(self, seen: Tensor) -> Tensor:
        """Rates of ticks [..., ticks] as rates of what they write."""
        return seen if self.band is None else seen @ self.band.to(seen.dtype)

    @property
    def whole(self) -> Tensor:
        """[B, H, sources, *shape]."""
        r = self.r if self.r is not None else self.known
        assert r is not None
        return r.transpose(1, 2) if self.x is None else self.x.unsqueeze(-1) * r.unsqueeze(-2)


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
    that something other than a sum is made of. by_row: whether every row of the weight has rates of its own. low: what
    the factors of its products are rounded to, under autocast; states, rates and systems are not."""

    passage: Passage

    def __init__(self, value: Tensor, ticks: int, low: torch.dtype | None = None) -> None:
        self.low = low
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
        self.by_row = False
        self._rows: list[tuple[Tensor, Tensor]] = []

    # The tick, told once

    def columns(self, x: Tensor) -> Tensor:
        """Known rows [batch or 1, ticks or 1, heads or 1, m] -> [B, H, T, m]."""
        batch, heads, ticks = self.lead
        return x.to(self.dtype).expand(batch, ticks, heads, -1).transpose(1, 2)

    def rows(self, x: Tensor) -> Tensor:
        """The same for what the weight is multiplied by: one tensor for one stream, so that it is asked once."""
        for known, rows in self._rows:
            if known is x:
                return rows
        self._rows.append((x, self.columns(x)))
        return self._rows[-1][1]

    def keep(self, name: str, value: Tensor | None = None) -> None:
        """One more state beside the weight. value: where it starts, else what was kept of it, else 0."""
        if name not in self.states:
            found = value if value is not None else self.kept.get(name)
            self.states[name] = torch.zeros_like(self.states["w"]) if found is None else found.to(self.dtype)
            self.now[name] = Form({name: 1.0})

    def write(
        self, x: Tensor | None, known: Tensor | None, answers: Mapping[int, Number], band: Tensor | None = None
    ) -> int:
        self.writes.append(Write(x, known, answers, band))
        return len(self.writes) - 1

    def read(self, u: Tensor, form: Form) -> int:
        for i, reading in enumerate(self.readings):
            if reading.u is u and same(reading.form.terms, form.terms):
                return i
        self.readings.append(Reading(u, form))
        return len(self.readings) - 1

    def already(self, form: Form) -> Tensor:
        """A form of states that no longer change at this tick, over all ticks: [batch, ticks, heads, *shape]. Raises
        NotAffine where it needs the weight itself, or what that answers."""
        names = self.reached(form.terms)
        terms = [*form.terms, *(t for n in names for t in self.now[n].terms)]
        if "w" in names or any(self.writes[t].answers for t in terms if isinstance(t, int)):
            raise NotAffine("a map of the running weight")
        self.mapped |= {n: self.now[n] for n in names}
        return self._whole(form, self._passage(names or ["w"]))  # none: of what is written at the tick alone

    # All ticks

    def settle(self) -> None:
        """Find what was written at every tick."""
        asked = self.asked()
        self.passage = self._passage([*self.states])
        if asked:
            for i, y in zip(asked, system.solved(self, asked), strict=True):
                self.readings[i].value = y
        for w in self.writes:
            w.r = self._total(w.known, w.answers)

    def asked(self) -> list[int]:
        """The readings that are written back, in the order of the tick. Raises NotAffine."""
        if any(self.now[n] is not form for n, form in self.mapped.items()):
            raise NotAffine("a state changes after it was used")
        return sorted({i for w in self.writes for i in w.answers})

    def answer(self, u: Tensor, form: Form) -> Tensor:
        """What rows u [B, H, T, n] are multiplied by at their tick, [B, H, T, m]."""
        return self._answered(self.readings[self.read(u, form)])

    def value(self, answer: Answer) -> Tensor:
        """A sum of answers, [B, H, T, m]."""
        return self._total(None if answer.known is None else self.columns(answer.known), answer.terms)

    def whole(self, form: Form) -> Tensor:
        """The weight itself at every tick, [batch, ticks, heads, *shape]."""
        return self._whole(form, self.passage)

    def after(self) -> dict[str, Tensor]:
        """The weight and its states after the last tick, [batch, 1, heads, *shape]."""
        return {name: self._after(name) for name in self.states}

    # Inside

    def _passage(self, names: list[str]) -> Passage:
        return Passage(names, self.now, self.lead[2], self.states["w"], len(self.writes), self.by_row)

    def _answered(self, reading: Reading) -> Tensor:
        if reading.value is None:
            alpha, seen = self.passage.spread(reading.form)
            parts = self.carried(reading.u, alpha)
            for i, w in enumerate(self.writes):
                if i in seen:
                    parts.append(self.read_of(reading.u, w, w.of_sources(seen[i])))
            reading.value = total_of(parts)
        return reading.value

    def read_of(self, u: Tensor, w: Write, seen: Tensor) -> Tensor:
        """What rows u read of all that was written."""
        if w.x is None:
            whole = rates.summed(seen, w.whole, self.passage.rows)
            return (u.unsqueeze(-2) @ whole).squeeze(-2)
        r = w.r if w.r is not None else w.known
        assert r is not None
        return dot(rates.inner(seen, u, w.x, self.passage.rows, self.low), r, self.low)

    def line(self, c: Number) -> Tensor:
        """A coefficient of answers, [batch or 1, heads or 1, ticks or 1]."""
        return line_of(c, self.device).to(self.dtype)

    def _total(self, known: Tensor | None, answers: Mapping[int, Number]) -> Tensor:
        parts = [] if known is None else [known]
        for i, c in answers.items():
            value = self._answered(self.readings[i])
            parts.append(value if is_one(c) else self.line(c)[..., None] * value)
        return total_of(parts)

    def carried(self, u: Tensor, alpha: Mapping[str, Tensor]) -> list[Tensor]:
        """What rows read of the states before the first tick."""
        carried = [n for n in alpha if self._carries("w", n)]
        return [rates.read(alpha[n], u, self.states[n].squeeze(1), self.passage.rows, self.low) for n in carried]

    def _whole(self, form: Form, passage: Passage) -> Tensor:
        alpha, seen = passage.spread(form)
        parts = [
            rates.grown(alpha[name], self.states[name].squeeze(1), passage.rows)
            for name in alpha
            if any(self._carries(str(term), name) for term in form.terms if term in passage.told)
        ]
        for i, told in seen.items():
            w = self.writes[i]
            parts.append(rates.summed(w.of_sources(told), w.whole, passage.rows))
        return total_of(parts).expand(*self.lead, *self.shape).transpose(1, 2)

    def _after(self, name: str) -> Tensor:
        if name in self.left:
            return torch.zeros_like(self.states[name])
        if set(self.now[name].terms) == {name} and is_one(self.now[name].terms[name]):
            return self.states[name]
        rows = self.passage.rows
        alpha, written = self.passage.end(name)
        parts = [
            rates.scaled(alpha[other], self.states[other].squeeze(1)) for other in alpha if self._carries(name, other)
        ]
        products: dict[int, tuple[Tensor, Tensor]] = {}  # one for all writes with the same x
        for i, told in written.items():
            w = self.writes[i]
            told = w.of_sources(told)
            if w.x is None:
                parts.append(rates.summed(told.unsqueeze(-2), w.whole, rows).squeeze(2))
                continue
            assert w.r is not None
            x, r = rates.product(told, w.x, w.r, rows)
            products[id(x)] = (x, products[id(x)][1] + r if id(x) in products else r)
        total = total_of(parts).expand(*self.lead[:2], *self.shape) if parts else None
        for x, r in products.values():
            total = self._added(total, x, r)
        assert total is not None
        return total.expand(*self.lead[:2], *self.shape).unsqueeze(1)

    def _added(self, total: Tensor | None, x: Tensor, r: Tensor) -> Tensor:
        """total + x^T r, with one pass over the weight less than a product and a sum."""
        if total is None:
            return dot(x.mT, r, self.low)
        if pays(self.low, x.shape[-1], r):
            return total + dot(x.mT, r, self.low)
        rows, right = x.mT.expand(*self.lead[:2], -1, -1), r.expand(*self.lead[:2], -1, -1)
        return torch.baddbmm(total.flatten(0, 1), rows.flatten(0, 1), right.flatten(0, 1)).reshape(total.shape)

    def _carries(self, name: str, other: str) -> bool:
        """Whether something of a state before the first tick is left in another at a later one."""
        return other not in self.anew and other in self.reached([name])

    def reached(self, terms: Iterable[str | int]) -> list[str]:
        """All states that these take something in of, at any tick."""
        found: list[str] = []
        todo = [t for t in terms if isinstance(t, str)]
        while todo:
            name = todo.pop()
            if name not in found:
                found.append(name)
                todo += [t for t in self.now[name].terms if isinstance(t, str)]
        return found


def same(a: Terms, b: Terms) -> bool:
    return a.keys() == b.keys() and all(
        a[n] is b[n] or (isinstance(a[n], float) and isinstance(b[n], float) and a[n] == b[n]) for n in a
    )
