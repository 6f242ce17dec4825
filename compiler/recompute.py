"""Chunks that are run again in the backward pass, so that training need not keep what every chunk computed.

What is kept is the state before every stretch of chunks; inside a stretch all is computed again when its gradient is
asked for. A stretch is as long as a budget of memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


class Untraced(Exception):
    """A body that is met for the first time can't be traced inside a stretch."""


def measured(run: Callable[[], T]) -> tuple[T, int]:
    """What a function gives, and the bytes that are kept for its backward pass."""
    seen: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter):
            seen[x.data_ptr()] = max(x.nbytes, seen.get(x.data_ptr(), 0))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = run()
    return result, sum(seen.values())


def stretch(chunks: int, each: int, state: int, budget: int) -> int:
    """How many chunks are computed again at a time, 0 for none. each: the bytes that a chunk keeps for its backward
    pass; state: those of the state before it. With stretches of k, there are chunks / k states and k chunks at once.
    A long one spares time where the last is not computed again, as in `bodies/scan.py`."""
    if not budget or chunks * each <= budget:
        return 0
    fitting = [k for k in range(1, chunks) if -(-chunks // k) * state + k * each <= budget]
    return max(fitting, default=max(1, math.isqrt(max(1, chunks * state // max(1, each)))))


def again(run: Callable[[], T]) -> T:
    """run(), to be computed again in the backward pass."""
    return checkpoint(run, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
