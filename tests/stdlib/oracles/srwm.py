"""The self-referential weight matrix. Irie et al. 2022, "A Modern Self-Referential Weight Matrix That Learns to Modify
Itself"."""

import torch
from torch import Tensor

from .common import Result


def srwm(x: Tensor, W_y: Tensor, W_q: Tensor, W_k: Tensor, W_b: Tensor) -> Result:
    """Four parts of one matrix, all rewritten by what they themselves generate (x is used as it comes).

    Read: y = x W_y, q = softmax(x W_q), k = softmax(x W_k), b = sigmoid(x W_b), four numbers in the order y, q, k, b.
    Then write, for each part P: W_P <- W_P + b_P k^T (q W_P - k W_P), all from the weights that were read.
    x: [T, d]; W_y: [d, d_out]; W_q, W_k: [d, d]; W_b: [d, 4], the start weights. Returns y [T, d_out] and the state
    W_y, W_q, W_k, W_b.
    """
    parts = [W_y, W_q, W_k, W_b]
    outputs = []
    for x_t in x:
        y, query, key, rates = (x_t @ part for part in parts)
        query, key, rates = torch.softmax(query, 0), torch.softmax(key, 0), torch.sigmoid(rates)
        parts = [
            part + rate * torch.outer(key, query @ part - key @ part) for part, rate in zip(parts, rates, strict=True)
        ]
        outputs.append(y)
    return torch.stack(outputs), dict(zip(("W_y", "W_q", "W_k", "W_b"), parts, strict=True))
