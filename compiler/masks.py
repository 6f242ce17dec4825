"""Which copies of a memory something holds for: all, none, or a tensor that says so for each.

Every tensor of the compiler has three leading axes, [batch, time, heads], each 1 where all are alike, before those of
its shape. A mask is True, False or a bool tensor of just these three, so that what is known beforehand costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAD = 3
Mask = bool | Tensor
Clock = int | Tensor  # the number of a tick: known beforehand, or [batch, time, heads]


def choose(mask: Mask, new: Tensor, old: Tensor) -> Tensor:
    """The new where the mask holds, the old elsewhere."""
    if isinstance(mask, bool):
        return new if mask else old
    return torch.where(spread(mask, max(new.dim(), old.dim())), new, old)


def spread(mask: Tensor, dims: int) -> Tensor:
    """A tensor of leading axes only, with ones for the axes of a shape."""
    return mask.reshape(*mask.shape, *(1,) * (dims - mask.dim()))


def both(a: Mask, b: Mask) -> Mask:
    if isinstance(a, bool):
        return b if a else False
    if isinstance(b, bool):
        return a if b else False
    return a & b


def either(a: Mask, b: Mask) -> Mask:
    if isinstance(a, bool):
        return True if a else b
    if isinstance(b, bool):
        return True if b else a
    return a | b


def negated(a: Mask) -> Mask:
    return not a if isinstance(a, bool) else ~a


def never(mask: Mask) -> bool:
    """Whether it is known beforehand to hold nowhere."""
    return mask is False


def ends(number: Clock, begun: Clock, every: int) -> Mask:
    """Whether a window of `every` ticks that began at `begun` ends with this tick."""
    left = (number + 1 - begun) % every
    return left == 0


def factor(mask: Mask, like: Tensor) -> Tensor | float:
    """1 where the mask holds, 0 elsewhere."""
    return float(mask) if isinstance(mask, bool) else mask.to(like.dtype)


def onto(rate: Tensor, dims: int) -> Tensor:
    """A rate [batch, time, heads, …] lined up with a weight of `dims` axes: on its last ones."""
    shape = rate.shape
    return rate.reshape(*shape[:LEAD], *(1,) * (dims - rate.dim()), *shape[LEAD:])


def widened(x: Tensor, lead: Sequence[int]) -> Tensor:
    """x with these leading axes, where it has ones."""
    return x.expand(*lead, *x.shape[LEAD:])


def head(x: Tensor, ticks: slice) -> Tensor:
    """These ticks of x, which may be the same at all."""
    return x if x.shape[1] == 1 else x[:, ticks]
