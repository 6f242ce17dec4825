"""Products in half precision, under autocast. Their factors are rounded; states, gates and what is solved are not."""

from __future__ import annotations

import torch
from torch import Tensor

# Multiplications by one matrix. On a CPU a smaller product takes longer in half precision.
ENOUGH = {"cpu": 1 << 19}


def dot(a: Tensor, b: Tensor, low: torch.dtype | None) -> Tensor:
    """a [..., n, k] @ b [..., k, m]. low: the type that autocast asks for, if it is on."""
    if low is None or not pays(low, a.shape[-2], b):
        return a @ b
    return (a.to(low) @ b.to(low)).to(a.dtype)


def pays(low: torch.dtype | None, rows: int, matrix: Tensor) -> bool:
    """Whether rows times a matrix [..., k, m] of a memory are made faster so. What a step writes can be too small for
    float16, so that is left to projections."""
    large = rows * matrix.shape[-2] * matrix.shape[-1] >= ENOUGH.get(matrix.device.type, 0)
    return low is torch.bfloat16 and large
