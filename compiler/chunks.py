"""The values of a piece, cut into chunks and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nldsl.compiler.masks import LEAD, Mask
from torch import Tensor


class Cuts:
    """The values of a piece, cut into all its chunks when they are asked for: at once, as the gradient of a piece cut
    out by itself would be a whole of zeros.

    even: how many chunks are as long as the longest, from chunk `first` on; whole: the values of all of these [batch,
    chunks, ticks, ...], each in one piece. early: what bodies computed beforehand, by chunk.
    """

    def __init__(self, values: dict[str, Any], bounds: Sequence[tuple[int, int]]) -> None:
        self.values, self.lengths = values, [end - begin for begin, end in bounds]
        self.parts: dict[str, list[Any]] = {}
        self.whole: dict[str, Tensor] = {}
        self.early: dict[int, dict[int, list[Tensor]]] = {}
        longest = max(self.lengths)
        self.first = self.lengths.index(longest)
        self.even = next(
            (i for i, n in enumerate(self.lengths[self.first :]) if n != longest), len(bounds) - self.first
        )

    def __contains__(self, name: object) -> bool:
        return name in self.values or name in self.parts

    def part(self, name: str, index: int) -> Any:
        if name not in self.parts:
            self.parts[name] = self._split(name, self.values.pop(name))
        return self.parts[name][index]

    def _split(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, Tensor) or value.shape[1] == 1 or self.even < 2:
            return split(value, self.lengths)
        begin = sum(self.lengths[: self.first])
        length = self.lengths[self.first]
        middle = value[:, begin : begin + length * self.even]
        self.whole[name] = packed(middle.reshape(value.shape[0], self.even, length, *value.shape[2:]))
        parts = list(self.whole[name].unbind(1))
        before = split(value[:, :begin], self.lengths[: self.first]) if begin else []
        after = self.lengths[self.first + self.even :]
        return [*before, *parts, *(split(value[:, -sum(after) :], after) if after else [])]


class Cut(dict[str, Any]):
    """The values of one chunk."""

    def __init__(self, cuts: Cuts, index: int) -> None:
        super().__init__()
        self.cuts, self.index = cuts, index

    def __missing__(self, name: str) -> Any:
        value = self.cuts.part(name, self.index)
        self[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.cuts


def packed(x: Tensor) -> Tensor:
    """[batch, chunks, ticks, ...], each chunk in one piece: head by head, as products want it."""
    if x.dim() > LEAD + 1 and x.shape[2] > 1 and x.shape[3] > 1:
        return x.movedim(1, 0).transpose(2, 3).contiguous().transpose(2, 3).movedim(0, 1)
    return x.movedim(1, 0).contiguous().movedim(0, 1)


def split(value: Any, lengths: list[int]) -> list[Any]:
    """A value in pieces of so many ticks each."""
    if isinstance(value, dict):
        parts = {n: split(v, lengths) for n, v in value.items()}
        return [{n: p[i] for n, p in parts.items()} for i in range(len(lengths))]
    if isinstance(value, list):
        rows = [split(v, lengths) for v in value]
        return [[row[i] for row in rows] for i in range(len(lengths))]
    if isinstance(value, Tensor) and value.shape[1] > 1:
        return list(torch.split(value, lengths, dim=1))
    return [value] * len(lengths)


def joined(parts: list[tuple[Any, int]]) -> Any:
    """One value of all chunks, one after the other."""
    first = parts[0][0]
    if len(parts) == 1:
        return first
    if isinstance(first, dict):
        return {n: joined([(v[n], ticks) for v, ticks in parts]) for n in first}
    if isinstance(first, list):
        return [joined([(v[i], ticks) for v, ticks in parts]) for i in range(len(first))]
    if all(isinstance(v, bool) for v, _ in parts):
        return first if all(v == first for v, _ in parts) else mixed(parts)
    batch, heads = (max(v.shape[i] for v, _ in parts) for i in (0, 2))
    return torch.cat([v.expand(batch, ticks, heads, *v.shape[3:]) for v, ticks in parts], dim=1)


def mixed(parts: list[tuple[Mask, int]]) -> Tensor:
    return torch.cat([torch.full((1, ticks, 1), bool(v)) for v, ticks in parts], dim=1)
