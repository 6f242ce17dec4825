"""The delta rule and its gated forms.

Schlag et al. 2021 and Yang et al. 2024 (DeltaNet); Yang et al. 2025, "Gated Delta Networks"; Hu et al. 2025, "Comba".
"""

import torch
from torch import Tensor

from .common import Result, Scalar, matrix_or_zeros


def delta_net(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, start: Tensor | None = None, *, read_before: bool = False
) -> Result:
    """S <- S - beta k (k S - v), y = q S: one gradient step on 1/2 |k S - v|^2 (Nested Learning eq 65, order mended).

    q, k: [T, d_k]; v: [T, d_v]; beta: [T]; start: [d_k, d_v], default zeros. `read_before` reads the state before the
    token's own write. Returns y [T, d_v] and the state S [d_k, d_v].
    """
    memory = matrix_or_zeros(start, k, v)
    outputs = []
    for q_t, k_t, v_t, beta_t in zip(q, k, v, beta, strict=True):
        old = memory
        memory = old - beta_t * torch.outer(k_t, k_t @ old - v_t)
        outputs.append(q_t @ (old if read_before else memory))
    return torch.stack(outputs), {"S": memory}


def gated_delta_net(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    start: Tensor | None = None,
    *,
    read_before: bool = False,
    error_on_decayed: bool = True,
) -> Result:
    """S' = alpha S, then S <- S' - beta k (k S' - v), y = q S (Gated Delta Networks).

    q, k: [T, d_k]; v: [T, d_v]; alpha, beta: [T]; start: [d_k, d_v], default zeros. `read_before` reads the state
    before the token's decay and write. Without `error_on_decayed` the error is taken on S instead of S', which is
    linear Titans without momentum, and another rule. Returns y [T, d_v] and the state S [d_k, d_v].
    """
    memory = matrix_or_zeros(start, k, v)
    outputs = []
    for q_t, k_t, v_t, alpha_t, beta_t in zip(q, k, v, alpha, beta, strict=True):
        old = memory
        decayed = alpha_t * old
        error = k_t @ (decayed if error_on_decayed else old) - v_t
        memory = decayed - beta_t * torch.outer(k_t, error)
        outputs.append(q_t @ (old if read_before else memory))
    return torch.stack(outputs), {"S": memory}


def comba(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    b: Scalar,
    d: Scalar,
    start: Tensor | None = None,
) -> Result:
    """S' = alpha S, p = b k, S <- S' - beta k (p S' - v), y = (q - d p) S (Comba: feedback and output correction).

    q, k: [T, d_k]; v: [T, d_v]; alpha, beta: [T]; b, d: numbers; start: [d_k, d_v], default zeros. Returns y [T, d_v]
    and the state S [d_k, d_v].
    """
    memory = matrix_or_zeros(start, k, v)
    outputs = []
    for q_t, k_t, v_t, alpha_t, beta_t in zip(q, k, v, alpha, beta, strict=True):
        feedback = b * k_t
        decayed = alpha_t * memory
        memory = decayed - beta_t * torch.outer(k_t, feedback @ decayed - v_t)
        outputs.append((q_t - d * feedback) @ memory)
    return torch.stack(outputs), {"S": memory}
