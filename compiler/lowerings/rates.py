"""The rates of a chunk's ticks at work: one number for a whole weight, or one for every row of it (`rows`).

Rates of states before the first tick are [B, H, ticks], of what is written [B, H, ticks, sources]; with `rows` both
have an axis more, [B, H, n or 1, ...]. So a decay for every row needs no quotients: it may be 0, as any other.
"""

from __future__ import annotations

import torch
from nldsl.compiler.halves import dot
from torch import Tensor


def read(alpha: Tensor, u: Tensor, state: Tensor, rows: bool, low: torch.dtype | None) -> Tensor:
    """What rows u [B, H, T, n] read of a state [B, H, n, m] from before the first tick, [B, H, T, m]."""
    return dot(alpha.mT * u, state, low) if rows else alpha[..., None] * dot(u, state, low)


def inner(seen: Tensor, u: Tensor, x: Tensor, rows: bool, low: torch.dtype | None) -> Tensor:
    """How much of each source, written with x [B, H, S, n], is in what rows u [B, H, T, n] read: [B, H, T, S]."""
    if not rows:
        return seen * dot(u, x.mT, low)
    if seen.shape[-3] == 1:
        return seen.squeeze(-3) * dot(u, x.mT, low)
    pairs = seen.transpose(-3, -2) * x.mT.unsqueeze(-3)  # [B, H, T, n, S]
    return (u.unsqueeze(-2) @ pairs).squeeze(-2)


def scaled(alpha: Tensor, state: Tensor) -> Tensor:
    """A state [B, H, *shape], alpha [B, H, (n or 1)]."""
    return alpha.reshape(*alpha.shape, *(1,) * (state.dim() - alpha.dim())) * state


def grown(alpha: Tensor, state: Tensor, rows: bool) -> Tensor:
    """A state [B, H, *shape] at every tick, alpha [B, H, (n or 1,) T]: [B, H, T, *shape]."""
    return scaled(alpha.mT if rows else alpha, state.unsqueeze(2))


def summed(rates: Tensor, written: Tensor, rows: bool) -> Tensor:
    """What was written [B, H, S, *shape], summed with rates [B, H, (n or 1,) R, S]: [B, H, R, *shape]."""
    if rows:
        return (rates @ written.transpose(2, 3)).transpose(2, 3)
    lead, shape = written.shape[:3], written.shape[3:]
    return (rates @ written.reshape(*lead, -1)).reshape(*lead[:2], rates.shape[-2], *shape)


def product(rates: Tensor, x: Tensor, r: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    """The sum of x r^T over all ticks, rates [B, H, (n or 1,) S], as rows whose product it is."""
    return (x * rates.mT, r) if rows and rates.shape[-2] > 1 else (x, r * rates.reshape(*rates.shape[:2], -1, 1))
