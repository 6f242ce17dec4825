"""Running products of small matrices, one per tick: how a memory and its optimizer's states pass through a chunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

Pair = tuple[str, str]


@dataclass(frozen=True)
class Products:
    """An entry of P[t, s] = A[t-1] ... A[s], which carries what is there before tick s to what is there before tick t.

    start: of what was there before the first tick, P[t, 0], [..., T]. seen: of what is written at tick s, P[t, s + 1],
    [..., T, T]. left, written: both after the last tick, [..., 1] and [..., T].
    """

    start: Tensor
    seen: Tensor
    left: Tensor
    written: Tensor


def products(
    names: Sequence[str], steps: Mapping[Pair, Tensor], ticks: int, dtype: torch.dtype
) -> dict[Pair, Products]:
    """steps: A, entries [batch or 1, heads or 1, T], all of one shape, in float64. dtype: of what is of two ticks; all
    else is in float32 at least. Entries of P that are always 0 are not there."""
    exact = torch.promote_types(dtype, torch.float32)
    like = next(iter(steps.values()), torch.zeros(1, 1, ticks, dtype=torch.float64))
    none = torch.zeros_like(like)
    a = torch.stack([torch.stack([steps.get((n, m), none) for m in names], -1) for n in names], -2)
    passed = _passed(a, exact)
    passed = passed.reshape(*passed.shape[:-2], ticks, len(names), ticks, len(names))
    below = torch.eye(ticks + 1, dtype=exact, device=like.device)[:ticks, 1:]
    place = {name: i for i, name in enumerate(names)}
    return {
        (n, m): _parts(passed[..., place[n], :, place[m]], below if n == m else None, dtype)
        for n, m in _reached(names, steps)
    }


def _passed(a: Tensor, dtype: torch.dtype) -> Tensor:
    """A[t] ... A[s] for t >= s, and 0 above: [..., T, n, n] -> [..., T n, T n].

    Blocks of ticks are joined two by two, so there are no logarithms and no quotients: gates may be 0. Joined in
    float64, as what a gate learns is a sum over many ticks."""
    ticks, count = a.shape[-3:-1]
    more = (1 << (ticks - 1).bit_length()) - ticks
    if more:
        unit = torch.eye(count, dtype=a.dtype, device=a.device)
        a = torch.cat([a, unit.expand(*a.shape[:-3], more, count, count)], -3)
    while a.shape[-3] > 1:
        first, second = a.reshape(*a.shape[:-3], -1, 2, *a.shape[-2:]).unbind(-3)
        below = second[..., :count] @ first[..., -count:, :]
        if a.shape[-3] == 2:
            first, below, second = (x.to(dtype) for x in (first, below, second))
        a = torch.cat([pad(first, (0, first.shape[-1])), torch.cat([below, second], -1)], -2)
    return a.squeeze(-3).to(dtype)[..., : ticks * count, : ticks * count]


def _reached(names: Sequence[str], steps: Mapping[Pair, Tensor]) -> list[Pair]:
    """The entries that some product has: each of its own, and where steps lead."""
    found = {(n, n) for n in names} | set(steps)
    while more := {(n, m) for n, k in found for other, m in found if other == k} - found:
        found |= more
    return [(n, m) for n in names for m in names if (n, m) in found]


def _parts(passed: Tensor, unit: Tensor | None, dtype: torch.dtype) -> Products:
    """passed: A[t] ... A[s], one entry. unit: P[s + 1, s + 1] at its place in `seen`, of a state's own entry."""
    one = float(unit is not None)
    seen = pad(passed, (-1, 1, 1, -1))
    return Products(
        pad(passed[..., 0], (1, -1), value=one),
        (seen if unit is None else seen + unit).to(dtype),
        passed[..., -1, :1],
        pad(passed[..., -1, :], (-1, 1), value=one),
    )


def total_of(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for part in others:
        first = first + part
    return first
