"""Softmax attention as a memory that keeps its pairs.

Nested Learning eqs 62-63 (the Nadaraya-Watson estimate); Su et al. 2021 for rotary positions; Behrouz et al. 2024,
"Titans", for persistent tokens.
"""

import torch
from torch import Tensor

from .common import Result


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, window: int = 0, scale: float | None = None) -> Result:
    """y = sum_i s(k_i, q) v_i / sum_i s(k_i, q) with s = exp(scale q.k), over the pairs kept (eqs 62-63).

    q, k: [T, d_k]; v: [T, d_v]. `window` newest pairs are kept, the token's own among them, 0 for all; `scale` defaults
    to d_k^-1/2. Returns y [T, d_v] and the state k, v: the pairs kept after the last token.
    """
    return attention_with_persistent(q, k, v, k[:0], v[:0], window, scale)


def attention_with_persistent(
    q: Tensor, k: Tensor, v: Tensor, pk: Tensor, pv: Tensor, window: int = 0, scale: float | None = None
) -> Result:
    """`softmax_attention` with n learned pairs pk: [n, d_k], pv: [n, d_v] that every token sees.

    They are never evicted and don't count towards the window. The state holds the token pairs only.
    """
    factor = k.shape[1] ** -0.5 if scale is None else scale
    kept_k, kept_v = k[:0], v[:0]
    outputs = []
    for q_t, k_t, v_t in zip(q, k, v, strict=True):
        # [-0:] keeps everything, which is what a window of 0 means.
        kept_k = torch.cat([kept_k, k_t[None]])[-window:]
        kept_v = torch.cat([kept_v, v_t[None]])[-window:]
        outputs.append(_nadaraya_watson(q_t, torch.cat([pk, kept_k]), torch.cat([pv, kept_v]), factor))
    return torch.stack(outputs), {"k": kept_k, "v": kept_v}


def rope(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions: the plane of channels i and i + d/2 turns by position * base^(-2i/d) ("rotate half").

    x: [T, d] with d even; positions: [T]. Returns [T, d].
    """
    half = x.shape[1] // 2
    speeds = base ** (-torch.arange(half, dtype=x.dtype) / half)
    rows = []
    for x_t, position in zip(x, positions, strict=True):
        cos, sin = torch.cos(position * speeds), torch.sin(position * speeds)
        first, second = x_t[:half], x_t[half:]
        rows.append(torch.cat([first * cos - second * sin, second * cos + first * sin]))
    return torch.stack(rows)


def _nadaraya_watson(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    logits = scale * (keys @ query)
    # A common factor of all weights cancels; this one keeps exp from overflowing.
    weights = torch.exp(logits - logits.max().detach())
    return weights @ values / weights.sum()
