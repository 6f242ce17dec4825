"""Random cases for the tests of the oracles of linear memories and of attention."""

import math

import torch
from torch import Tensor

SIZES = [(1, 3, 2), (6, 2, 5), (11, 5, 3)]  # T, d_k, d_v
Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def draw_case(T: int, d_k: int, d_v: int) -> Case:
    """q, k, v, two rows of gates and a start state. Keys share a component; gates include 0, 1, 2 and exp(-20)."""
    torch.manual_seed(T)
    q, v, start = random(T, d_k), random(T, d_v), random(d_k, d_v)
    k = torch.nn.functional.normalize(random(T, d_k) + 2 * random(d_k), dim=1) * (0.5 + random(T, 1).abs())
    return q, k, v, gates(T), gates(T), start


def random(*shape: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, dtype=torch.float64)


def gates(T: int) -> Tensor:
    """0, 1, 2, exp(-20) and numbers in (0, 1), the first T of them in any order."""
    values = torch.cat(
        [torch.tensor([0, 1, 2, math.exp(-20)], dtype=torch.float64), torch.rand(T, dtype=torch.float64)]
    )
    return values[:T][torch.randperm(T)]


def outer(a: Tensor, b: Tensor) -> Tensor:
    """[T, n] and [T, m] to [T, n, m]."""
    return a[:, :, None] * b[:, None, :]
