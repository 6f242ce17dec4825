"""Weights by the kernels of flash-linear-attention (extra `gpu`): all ticks of a piece at once.

They know one rule, w' = diag(a) w + x v^T + z (e^T w)^T, and special cases of it. What a tick makes of a weight is told
as for the closed form; where it is of this kind, a change of variables makes it theirs. They take logarithms of decays,
and some take quotients: a decay that is smaller than a kernel bears, or negative, is none for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler.affine import Form, Number, is_one
from nldsl.compiler.lowerings.told import Told, Unfit, beside_rows, told, when
from nldsl.compiler.lowerings.weight import Reading, Weight
from torch import Tensor

ANY, QUOTIENTS = 0.0, 6.8e-3  # decays must be larger: sixteen of e^-5 have quotients that float32 can say


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
                when(weight, reading)
    except Unfit:
        return ()
    return tuple(sorted(found))


class Fused(Weight):
    """A weight over the ticks of a piece, by a kernel whose products are in the type `low`. Raises Unfit where some
    decay is too small for it."""

    def __init__(self, value: Tensor, ticks: int, low: torch.dtype) -> None:
        super().__init__(value, ticks)
        self.half = low
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
            factor = when(self, reading)
            reading.value = self._after_tick(reading.u) if factor is None else self._before_tick(reading.u, factor)
        return reading.value

    def _before_tick(self, u: Tensor, factor: Number) -> Tensor:
        """What is read before a tick is what the tick before left, and at first the state."""
        u = (beside_rows(factor) * u.transpose(1, 2)).transpose(1, 2)
        first = u[:, :, :1] @ self.states["w"].squeeze(1)
        return torch.cat([first, self._after_tick(u.roll(-1, 2))[:, :, :-1]], 2)

    def _after_tick(self, u: Tensor) -> Tensor:
        """What rows u [B, H, T, n] read after each tick, [B, H, T, m]."""
        given: Mapping[str, Tensor] = {"q": u.transpose(1, 2).expand(self.rule.x.shape), **self.kernel.given(self.rule)}
        given = {n: x.contiguous() if n in GATES else x.to(self.half).contiguous() for n, x in given.items()}
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
