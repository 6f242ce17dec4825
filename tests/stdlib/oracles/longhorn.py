"""Longhorn: the delta rule as an implicit step. Liu et al. 2024, "Longhorn: State Space Models are Amortized Online
Learners"."""

import torch
from torch import Tensor

from .common import Result, matrix_or_zeros


def longhorn(q: Tensor, k: Tensor, x: Tensor, beta: Tensor, start: Tensor | None = None) -> Result:
    """S <- argmin |S - S_old|^2 + sum_j beta_j ((k S)_j - x_j)^2, y = q S, solved exactly.

    The minimum is S - k (eps (k S - x)) with eps = beta / (1 + beta k.k) for each value channel. q, k: [T, d_k];
    x, beta: [T, d_v]; start: [d_k, d_v], default zeros. Returns y [T, d_v] and the state S [d_k, d_v].
    """
    memory = matrix_or_zeros(start, k, x)
    outputs = []
    for q_t, k_t, x_t, beta_t in zip(q, k, x, beta, strict=True):
        rate = beta_t / (1 + beta_t * (k_t @ k_t))
        memory = memory - torch.outer(k_t, rate * (k_t @ memory - x_t))
        outputs.append(q_t @ memory)
    return torch.stack(outputs), {"S": memory}


def longhorn_diagonal(q: Tensor, k: Tensor, x: Tensor, beta: Tensor, start: Tensor | None = None) -> Result:
    """S <- (1 - k^2 (x) eps) . S + k (x) (eps . x), y = q S: what the authors' code runs instead of `longhorn`.

    Of the transition I - eps k k^T of a value channel only the diagonal is kept, while eps is still
    beta / (1 + beta k.k). Shapes, and what is returned, are those of `longhorn`.
    """
    memory = matrix_or_zeros(start, k, x)
    outputs = []
    for q_t, k_t, x_t, beta_t in zip(q, k, x, beta, strict=True):
        rate = beta_t / (1 + beta_t * (k_t @ k_t))
        forgotten = torch.outer(k_t * k_t, rate)
        memory = (1 - forgotten) * memory + torch.outer(k_t, rate * x_t)
        outputs.append(q_t @ memory)
    return torch.stack(outputs), {"S": memory}
