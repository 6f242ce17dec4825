"""Linear attention: plain, normalised, with a decay.

Katharopoulos et al. 2020, "Transformers are RNNs"; Behrouz et al. 2025, "Nested Learning", eqs 14-18; RetNet and
Mamba-2 for the scalar decay.
"""

import torch
from torch import Tensor
from torch.nn.functional import elu

from .common import Result, matrix_or_zeros


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor | None = None, *, read_before: bool = False
) -> Result:
    """S <- S + k v^T, y = q S (Nested Learning eqs 14-18).

    q, k: [T, d_k]; v: [T, d_v]; start: [d_k, d_v], default zeros. `read_before` reads the state before the token's own
    write. Returns y [T, d_v] and the state S [d_k, d_v].
    """
    return gated_linear_attention(q, k, v, k.new_ones(k.shape[0]), start, read_before=read_before)


def gated_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, start: Tensor | None = None, *, read_before: bool = False
) -> Result:
    """S <- decay S + k v^T, y = q S (RetNet; Mamba-2 with its step size folded into v).

    q, k: [T, d_k]; v: [T, d_v]; decay: [T]; start: [d_k, d_v], default zeros. `read_before` reads the state before the
    token's own decay and write. Returns y [T, d_v] and the state S [d_k, d_v].
    """
    memory = matrix_or_zeros(start, k, v)
    outputs = []
    for q_t, k_t, v_t, decay_t in zip(q, k, v, decay, strict=True):
        old = memory
        memory = decay_t * old + torch.outer(k_t, v_t)
        outputs.append(q_t @ (old if read_before else memory))
    return torch.stack(outputs), {"S": memory}


def normalised_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    start: Tensor | None = None,
    start_z: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> Result:
    """S <- S + phi(k) v^T, z <- z + phi(k), y = phi(q) S / (phi(q) . z + eps) with phi(x) = elu(x) + 1.

    Katharopoulos et al. 2020, eqs 7 and 16-20; eps is the one of their code. q, k: [T, d_k]; v: [T, d_v];
    start: [d_k, d_v] and start_z: [d_k], default zeros. Returns y [T, d_v] and the state S [d_k, d_v], z [d_k].
    """
    memory = matrix_or_zeros(start, k, v)
    normaliser = k.new_zeros(k.shape[1]) if start_z is None else start_z
    outputs = []
    for q_t, k_t, v_t in zip(elu(q) + 1, elu(k) + 1, v, strict=True):
        memory = memory + torch.outer(k_t, v_t)
        normaliser = normaliser + k_t
        outputs.append(q_t @ memory / (q_t @ normaliser + eps))
    return torch.stack(outputs), {"S": memory, "z": normaliser}
