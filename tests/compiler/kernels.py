"""The kernels of flash-linear-attention as their documentation has them, token by token: what stands in for them where
there is no GPU. q, k, v, a, b [B, T, H, n or m], g, beta [B, T, H], states [B, H, n, m]; g is the logarithm of a decay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Result = tuple[Tensor, Tensor]


def chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any) -> Result:
    """S = e^g S + k v^T."""
    return _scan(lambda S, t: _scalar(g, t) * S + _outer(k, v, t), q, **options)


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any) -> Result:
    """S = diag(e^g) S + k v^T, g [B, T, H, n]."""
    return _scan(lambda S, t: _rows(g, t) * S + _outer(k, v, t), q, **options)


def chunk_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, **options: Any) -> Result:
    """S = S + beta k (v - S^T k)^T."""
    return chunk_gated_delta_rule(q, k, v, torch.zeros_like(beta), beta, **options)


def chunk_gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **options: Any) -> Result:
    """S = e^g S, then S = S + beta k (v - S^T k)^T."""

    def step(S: Tensor, t: int) -> Tensor:
        S = _scalar(g, t) * S
        error = v[:, t] - torch.einsum("bhn,bhnm->bhm", k[:, t], S)
        return S + torch.einsum("bh,bhn,bhm->bhnm", beta[:, t], k[:, t], error)

    return _scan(step, q, **options)


def chunk_dplr_delta_rule(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor, **options: Any) -> Result:
    """S = diag(e^gk) S + b (a^T S) + k v^T."""

    def step(S: Tensor, t: int) -> Tensor:
        read = torch.einsum("bhn,bhnm->bhm", a[:, t], S)
        return _rows(gk, t) * S + torch.einsum("bhn,bhm->bhnm", b[:, t], read) + _outer(k, v, t)

    return _scan(step, q, **options)


KERNELS: dict[str, Callable[..., Result]] = {
    "chunk_simple_gla": chunk_simple_gla,
    "chunk_gla": chunk_gla,
    "chunk_delta_rule": chunk_delta_rule,
    "chunk_gated_delta_rule": chunk_gated_delta_rule,
    "chunk_dplr_delta_rule": chunk_dplr_delta_rule,
}


def _scan(
    step: Callable[[Tensor, int], Tensor], q: Tensor, scale: float, initial_state: Tensor, output_final_state: bool
) -> Result:
    """o = scale S^T q, after each write."""
    state, found = initial_state, []
    for t in range(q.shape[1]):
        state = step(state, t)
        found.append(scale * torch.einsum("bhn,bhnm->bhm", q[:, t], state))
    assert output_final_state
    return torch.stack(found, 1), state


def _scalar(g: Tensor, t: int) -> Tensor:
    return g[:, t, :, None, None].exp()


def _rows(g: Tensor, t: int) -> Tensor:
    return g[:, t, :, :, None].exp()


def _outer(k: Tensor, v: Tensor, t: int) -> Tensor:
    return torch.einsum("bhn,bhm->bhnm", k[:, t], v[:, t])
