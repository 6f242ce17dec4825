"""Running products of small matrices, one per tick: how a memory and its optimizer's states pass through a chunk.

A matrix is its entries, each a tensor over all ticks; those that are always 0 are not there.
"""

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


@dataclass(frozen=True)
class _Blocks:
    """An entry of E[t, s] = A[t] ... A[s] inside each block of ticks: whole [..., blocks, size, size], its first column
    and its last row [..., blocks, size], which are enough to join two blocks."""

    whole: Tensor
    column: Tensor
    row: Tensor


def products(
    names: Sequence[str], steps: Mapping[Pair, Tensor], ticks: int, dtype: torch.dtype
) -> dict[Pair, Products]:
    """steps: A, entries [batch or 1, heads or 1, T], all of one shape, in float64. dtype: of what is of two ticks.

    Blocks of ticks are joined two by two, so there are no logarithms and no quotients: gates may be 0.
    """
    like = next(iter(steps.values()), torch.zeros(1, 1, ticks, dtype=torch.float64))
    more = (1 << (ticks - 1).bit_length()) - ticks
    entries = {(n, m): steps.get((n, m), torch.zeros_like(like)) for n, m in _reached(names, steps)}
    lines = {(n, m): pad(x, (0, more), value=float(n == m))[..., None] for (n, m), x in entries.items()}
    blocks = {pair: _Blocks(x[..., None].to(dtype), x, x) for pair, x in lines.items()}
    for _ in range((ticks - 1).bit_length()):
        blocks = _joined(blocks)
    below = torch.eye(ticks + 1, dtype=dtype, device=like.device)[:ticks, 1:]
    return {(n, m): _parts(b, more, below if n == m else None) for (n, m), b in blocks.items()}


def _reached(names: Sequence[str], steps: Mapping[Pair, Tensor]) -> list[Pair]:
    """The entries that some product has: each of its own, and where steps lead."""
    found = {(n, n) for n in names} | set(steps)
    while more := {(n, m) for n, k in found for other, m in found if other == k} - found:
        found |= more
    return [(n, m) for n in names for m in names if (n, m) in found]


def _joined(blocks: Mapping[Pair, _Blocks]) -> dict[Pair, _Blocks]:
    """Blocks twice as long."""
    first, second = ({pair: _half(b, i) for pair, b in blocks.items()} for i in (0, 1))
    found: dict[Pair, _Blocks] = {}
    for n, m in blocks:
        through = [(second[n, k], first[k, m]) for j, k in blocks if j == n and (k, m) in blocks]
        below = total_of(b.column[..., None] * a.row[..., None, :] for b, a in through).to(blocks[n, m].whole.dtype)
        column = total_of(b.column * a.row[..., :1] for b, a in through)
        row = total_of(b.column[..., -1:] * a.row for b, a in through)
        a, b = first[n, m], second[n, m]
        above = pad(a.whole, (0, a.whole.shape[-1]))
        whole = torch.cat([above, torch.cat([below, b.whole], -1)], -2)
        found[n, m] = _Blocks(whole, torch.cat([a.column, column], -1), torch.cat([row, b.row], -1))
    return found


def _half(blocks: _Blocks, index: int) -> _Blocks:
    """Every other block."""
    whole, column, row = blocks.whole, blocks.column, blocks.row
    return _Blocks(
        whole.reshape(*whole.shape[:-3], -1, 2, *whole.shape[-2:]).unbind(-3)[index],
        column.reshape(*column.shape[:-2], -1, 2, column.shape[-1]).unbind(-2)[index],
        row.reshape(*row.shape[:-2], -1, 2, row.shape[-1]).unbind(-2)[index],
    )


def _parts(blocks: _Blocks, more: int, unit: Tensor | None) -> Products:
    """more: ticks at the end that are none. unit: P[s + 1, s + 1] at its place in `seen`, of a state's own entry."""
    one = float(unit is not None)
    seen = pad(blocks.whole.squeeze(-3), (-1, 1 - more, 1, -1 - more))
    column, row = blocks.column.squeeze(-2), blocks.row.squeeze(-2)
    return Products(
        pad(column, (1, -1 - more), value=one),
        seen if unit is None else seen + unit,
        row[..., :1],
        pad(row, (-1, 1 - more), value=one),
    )


def total_of(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for part in others:
        first = first + part
    return first
