"""Running products of small matrices, one per tick: how a memory and its optimizer's states pass through a chunk."""

from __future__ import annotations

import torch
from torch import Tensor


def times(a: Tensor, b: Tensor) -> Tensor:
    """a @ b; matrices of one entry are numbers."""
    return a * b if a.shape[-1] == 1 and b.shape[-2] == 1 else a @ b


def products(steps: Tensor) -> Tensor:
    """P[t, s] = A[t-1] ... A[s], which carries what is there before tick s to what is there before tick t: the unit
    matrix for t = s, 0 for t < s. steps: A, [..., T, n, n]; P: [..., T + 1, T + 1, n, n].

    Blocks of ticks are joined two by two, so there are no logarithms and no quotients: gates may be 0.
    """
    count, n = steps.shape[-3], steps.shape[-1]
    size = 1 << (count - 1).bit_length()
    unit = torch.eye(n, dtype=steps.dtype, device=steps.device)
    padded = torch.cat([steps, unit.expand(*steps.shape[:-3], size - count, n, n)], dim=-3)
    blocks = padded.reshape(*steps.shape[:-3], size, 1, 1, n, n)  # E[t, s] = A[t] ... A[s] inside each block
    while blocks.shape[-5] > 1:
        pairs = blocks.reshape(*blocks.shape[:-5], -1, 2, *blocks.shape[-4:])
        first, second = pairs.unbind(-5)
        below = times(second[..., :, :1, :, :], first[..., -1:, :, :, :])
        above = torch.zeros_like(below)
        blocks = torch.cat([torch.cat([first, above], dim=-3), torch.cat([below, second], dim=-3)], dim=-4)
    inclusive = blocks.squeeze(-5)[..., :count, :count, :, :]
    later = torch.nn.functional.pad(inclusive, (0, 0, 0, 0, 0, 1, 1, 0))
    return later + torch.eye(count + 1, dtype=steps.dtype, device=steps.device)[..., None, None] * unit
