"""Weights by the kernels of flash-linear-attention (extra `gpu`): all ticks of a piece at once.

They know one rule, w' = diag(a) w + x v^T + z (e^T w)^T, and special cases of it. What a tick makes of a weight is told
as for the closed form; where it is of this kind, a change of variables makes it theirs. They take logarithms of decays,
and some take quotients: a decay that is smaller than a kernel bears, or negative, is none for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from nldsl.compiler.affine import Form, Number, is_one, times
from nldsl.compiler.lowerings.products import total_of
from nldsl.compiler.lowerings.weight import Reading, Weight, Write, same
from nldsl.compiler.masks import LEAD
from torch import Tensor

WIDEST = 256  # rows of a state that the kernels keep on the chip
ANY, QUOTIENTS = 0.0, 6.8e-3  # decays must be larger: sixteen of e^-5 have quotients that float32 can say


class Unfit(Exception):
    """No kernel knows this."""


@dataclass(frozen=True)
class Told:
    """w' = a w + x known^T + z (e^T w)^T at every tick. decay: a, a number per tick or one for every row. x, z, e
    [B, T, H, n]; known [B, T, H, m]. beta, aim: where z is x and e is -a beta x, so that a tick moves a w towards aim;
    divided: whether a was divided by for that."""

    decay: Number
    x: Tensor
    known: Tensor
    erased: tuple[Tensor, Tensor] | None = None  # z and e
    beta: Number = None
    aim: Tensor | None = None
    divided: bool = False

    @property
    def by_row(self) -> bool:
        return isinstance(self.decay, Tensor) and self.decay.dim() > LEAD

    @property
    def log(self) -> Tensor:
        """Of the decay, [B, T, H], or [B, T, H, n] where rows have their own."""
        if not self.by_row:
            return self.per_tick(self.decay).log()
        assert isinstance(self.decay, Tensor)
        return self.decay.to(self.x.dtype).log().expand(self.x.shape)

    @property
    def log_of_rows(self) -> Tensor:
        return self.log if self.by_row else self.log[..., None].expand(self.x.shape)

    def per_tick(self, c: Number) -> Tensor:
        return torch.as_tensor(c, dtype=self.x.dtype, device=self.x.device).expand(self.x.shape[:LEAD])


def told(weight: Weight) -> Told:
    """What a tick makes of a weight. Raises Unfit."""
    terms = dict(weight.now["w"].terms)
    decay = terms.pop("w", 0.0)
    if (
        set(weight.states) - {"start"} != {"w"}
        or weight.reached(["w"]) != ["w"]
        or len(weight.shape) != 2
        or weight.shape[0] > WIDEST
    ):
        raise Unfit
    writes = [(weight.writes[i], b) for i, b in terms.items() if isinstance(i, int)]
    if any(w.x is None or w.band is not None or _dims(b) > LEAD for w, b in writes) or not writes:
        raise Unfit
    asked = [(w, times(b, c), weight.readings[i]) for w, b in writes for i, c in w.answers.items()]
    giving = [(w, b) for w, b in writes if w.known is not None]
    z = _rows([w for w, _, _ in asked]) if asked else None
    x = _rows([w for w, _ in giving]) if giving else z
    assert x is not None
    known = [_at(b) * w.known.transpose(1, 2) for w, b in giving if w.known is not None]
    found = Told(decay, x, total_of(known) if known else x.new_zeros(*x.shape[:LEAD], weight.shape[1]))
    if z is None:
        return found
    erased = [_at(times(c, _before(reading))) * reading.u.transpose(1, 2) for _, c, reading in asked]
    found = replace(found, erased=(z, total_of(erased).expand(z.shape)))
    corrects = len(writes) == len(asked) == len(giving) == 1 and asked[0][2].u is writes[0][0].x
    return _corrected(found, weight, *writes[0]) if corrects else found


def _rows(writes: Sequence[Write]) -> Tensor:
    """The rows that all these write with, [B, T, H, n]. Raises Unfit where there are several."""
    x = writes[0].x
    if x is None or any(w.x is not x for w in writes):
        raise Unfit
    return x.transpose(1, 2)


def _corrected(found: Told, weight: Weight, write: Write, b: Number) -> Told:
    """The same as a delta rule, where the step b need not be divided by: it may be 0."""
    ((i, c),) = write.answers.items()
    seen = _before(weight.readings[i])
    if not isinstance(c, float) or not c or found.by_row or _dims(seen) > LEAD:
        return found
    assert write.known is not None
    if not (seen is found.decay or is_one(seen)):
        return found
    kept = 1.0 if seen is found.decay else found.decay
    aim = _at(times(kept, -1 / c)) * write.known.transpose(1, 2)
    return replace(found, beta=_quotient(times(b, -c), kept), aim=aim, divided=not is_one(kept))


def _before(reading: Reading) -> Number:
    """The factor of the weight before a tick in what is read."""
    if set(reading.form.terms) != {"w"}:
        raise Unfit
    return reading.form.terms["w"]


def _when(weight: Weight, reading: Reading) -> Number | None:
    """None where a weight is read as a tick leaves it, else the factor of what the tick found. Raises Unfit."""
    return None if same(reading.form.terms, weight.now["w"].terms) else _before(reading)


def _quotient(a: Number, b: Number) -> Number:
    return a if is_one(b) else a / b


def _dims(c: Number) -> int:
    return c.dim() if isinstance(c, Tensor) else 0


def _at(c: Number) -> Number:
    """A number per tick beside rows [B, T, H, n]."""
    return c.unsqueeze(-1) if _dims(c) == LEAD else c


# The kernels


@dataclass(frozen=True)
class Kernel:
    """A kernel of `module`. above: what decays must be larger than. fits: whether it knows a rule; given: the rule in
    its words, beside q and the state [B, H, n, m]."""

    module: str
    name: str
    above: float
    fits: Callable[[Told], bool]
    given: Callable[[Told], dict[str, Tensor]]

    def load(self) -> Callable[..., tuple[Tensor, Tensor]]:
        return getattr(importlib.import_module(self.module), self.name)  # type: ignore[no-any-return]


def _decaying(rule: Told) -> dict[str, Tensor]:
    return {"k": rule.x, "v": rule.known, "g": rule.log}


def _delta(rule: Told) -> dict[str, Tensor]:
    assert rule.aim is not None
    return {"k": rule.x, "v": rule.aim, "beta": rule.per_tick(rule.beta)}


def _gated_delta(rule: Told) -> dict[str, Tensor]:
    return _delta(rule) | {"g": rule.log}


def _general(rule: Told) -> dict[str, Tensor]:
    assert rule.erased is not None
    z, e = rule.erased
    return {"k": rule.x, "v": rule.known, "a": e, "b": z, "gk": rule.log_of_rows}


# The first that fits is taken.
KERNELS = (
    Kernel("fla.ops.simple_gla", "chunk_simple_gla", ANY, lambda t: t.erased is None and not t.by_row, _decaying),
    Kernel("fla.ops.gla", "chunk_gla", QUOTIENTS, lambda t: t.erased is None, _decaying),
    Kernel("fla.ops.delta_rule", "chunk_delta_rule", ANY, lambda t: t.beta is not None and is_one(t.decay), _delta),
    Kernel("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", ANY, lambda t: t.beta is not None, _gated_delta),
    Kernel("fla.ops.generalized_delta_rule", "chunk_dplr_delta_rule", QUOTIENTS, lambda t: True, _general),
)
GATES = ("g", "gk", "beta")  # stay in float32


def kernel_of(rule: Told) -> Kernel:
    return next(kernel for kernel in KERNELS if kernel.fits(rule))


def names(weights: Collection[Weight]) -> tuple[str, ...]:
    """Those that know all these weights, none if there is one that no kernel knows."""
    try:
        found = {kernel_of(told(weight)).name for weight in weights}
        for weight in weights:
            for reading in weight.readings:
                _when(weight, reading)
    except Unfit:
        return ()
    return tuple(sorted(found))


class Fused(Weight):
    """A weight over the ticks of a piece, by a kernel whose products are in the type `low`. Raises Unfit where some
    decay is too small for it."""

    def __init__(self, value: Tensor, ticks: int, low: torch.dtype) -> None:
        super().__init__(value, ticks)
        self.low = low
        self.end: Tensor | None = None

    def settle(self) -> None:
        self.rule = told(self)
        self.kernel = kernel_of(self.rule)
        decay = self.rule.decay
        small = decay if not isinstance(decay, Tensor) else decay.detach().amin().item()  # waits for the device
        if small <= (QUOTIENTS if self.rule.divided else self.kernel.above):
            raise Unfit

    def _answered(self, reading: Reading) -> Tensor:
        if reading.value is None:
            factor = _when(self, reading)
            reading.value = self._after_tick(reading.u) if factor is None else self._before_tick(reading.u, factor)
        return reading.value

    def _before_tick(self, u: Tensor, factor: Number) -> Tensor:
        """What is read before a tick is what the tick before left, and at first the state."""
        u = (_at(factor) * u.transpose(1, 2)).transpose(1, 2)
        first = u[:, :, :1] @ self.states["w"].squeeze(1)
        return torch.cat([first, self._after_tick(u.roll(-1, 2))[:, :, :-1]], 2)

    def _after_tick(self, u: Tensor) -> Tensor:
        """What rows u [B, H, T, n] read after each tick, [B, H, T, m]."""
        given: Mapping[str, Tensor] = {"q": u.transpose(1, 2).expand(self.rule.x.shape), **self.kernel.given(self.rule)}
        given = {n: x.contiguous() if n in GATES else x.to(self.low).contiguous() for n, x in given.items()}
        state = self.states["w"].squeeze(1).expand(*self.lead[:2], *self.shape).contiguous()
        y, end = self.kernel.load()(**given, scale=1.0, initial_state=state, output_final_state=True)
        self.end = _Once.apply(end)  # type: ignore[no-untyped-call]
        return _Once.apply(y).transpose(1, 2).to(self.dtype)  # type: ignore[no-untyped-call,no-any-return]

    def _after(self, name: str) -> Tensor:
        if name != "w":
            return self.states[name]
        if self.end is None:
            self._after_tick(self.rule.x.transpose(1, 2))
        assert self.end is not None
        return self.end.unsqueeze(1).to(self.dtype)

    def whole(self, form: Form) -> Tensor:
        raise Unfit


class _Once(torch.autograd.Function):
    """What a kernel gives: its gradient has none of its own, and must not be taken for one that is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the kernels of flash-linear-attention have no gradient of a gradient; take it outside of autocast, "
                "where the compiler's own forms run"
            )
        return given
