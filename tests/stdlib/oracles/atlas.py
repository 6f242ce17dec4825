"""Atlas (Behrouz et al. 2025): memories that learn from a window of pairs (the Omega rule), and their feature maps."""

from itertools import combinations_with_replacement
from typing import Literal

import torch
from torch import Tensor

from .nets import (
    QUINTIC,
    Net,
    Objective,
    Params,
    Read,
    State,
    gradient,
    mix,
    newton_schulz,
    visible,
    zeros_like,
)

Bias = Literal["square", "dot"]


def dla(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    eta: Tensor,
    window: int = 1,
    chunk: int = 1,
    *,
    read: Read = "after",
) -> tuple[Tensor, State]:
    """Deep linear attention: M_t = alpha_t M_{t-1} + sum_i eta_i grad <M(k_i), v_i> (Atlas eq 19; a window: eq 20).

    q, k, v [T, d], already passed through the feature map; alpha, eta [T]. Returns y [T, d_out] and {"weights"}.
    """
    return _omega(net, start, q, k, v, alpha, eta, window, chunk, read, "dot", 1.0)


def omega_net(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    gamma: Tensor,
    window: int,
    chunk: int = 1,
    *,
    read: Read = "after",
    scale: float = 0.5,
) -> tuple[Tensor, State]:
    """M_t = alpha_t M_{t-1} - grad sum_{t - window < i <= t} gamma_i scale ||M(k_i) - v_i||^2 (Atlas eqs 8-10).

    q, k, v [T, d]; alpha [T]; gamma [T] (each pair's own weight) or [T, window], where gamma[t, j] weighs pair t - j.
    `scale=1` is the printed objective, the default absorbs its factor two into gamma. All gradients of a write are
    taken at the start of the *writing* token's chunk. Returns y [T, d_out] and {"weights"}.
    """
    return _omega(net, start, q, k, v, alpha, gamma, window, chunk, read, "square", scale)


def dot_memory(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gamma: Tensor,
    window: int,
    chunk: int = 1,
    *,
    read: Read = "after",
    bias: Bias = "square",
    scale: float = 0.5,
) -> tuple[Tensor, State]:
    """Omega memory without decay: the deep transformer of Atlas eq 27; `bias="dot"` is its dot-product form (eq 25).

    Arguments as in `omega_net`; "dot" takes -<M(k), v> with no scale. Returns y [T, d_out] and {"weights"}.
    """
    keep = torch.ones_like(gamma[..., 0] if gamma.dim() == 2 else gamma)
    factor = scale if bias == "square" else 1.0
    return _omega(net, start, q, k, v, keep, gamma, window, chunk, read, bias, factor)


def atlas(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    alpha: Tensor,
    eta: Tensor,
    gamma: Tensor,
    window: int,
    rounds: int = 5,
    chunk: int = 1,
    *,
    read: Read = "after",
    scale: float = 0.5,
) -> tuple[Tensor, State]:
    """S_t = theta_t S_{t-1} - grad of the windowed objective, M_t = alpha_t M_{t-1} + eta_t NS(S_t) (Atlas eqs 32-33).

    theta, alpha, eta [T]; the rest as in `omega_net`. NS runs `rounds` Newton-Schulz rounds on each matrix alone, with
    Muon's coefficients; vectors (biases) take their momentum as it is. Returns y [T, d_out] and
    {"weights", "momentum"}; the momentum is S, before NS.
    """
    weights = anchor = start
    momentum = zeros_like(start)
    outputs = []
    for t in range(len(q)):
        if t % chunk == 0:
            anchor = weights
        before = weights
        step = gradient(windowed(net, k, v, gamma, t, window, "square", scale), anchor)
        momentum = mix((theta[t], momentum), (-1.0, step))
        weights = mix((alpha[t], weights), (eta[t], _orthogonal(momentum, rounds)))
        outputs.append(net(visible(read, anchor, before, weights), q[t]))
    return torch.stack(outputs), {"weights": weights, "momentum": momentum}


def windowed(net: Net, k: Tensor, v: Tensor, gamma: Tensor, t: int, window: int, bias: Bias, scale: float) -> Objective:
    """Sum of the weighted objectives of the pairs t - window + 1 .. t as a function of the weights."""

    def objective(params: Params) -> Tensor:
        total = torch.zeros((), dtype=k.dtype)
        for i in range(max(0, t - window + 1), t + 1):
            answer = net(params, k[i])
            loss = ((answer - v[i]) ** 2).sum() if bias == "square" else -answer @ v[i]
            total = total + (gamma[t, t - i] if gamma.dim() == 2 else gamma[i]) * scale * loss
        return total

    return objective


def polynomial(x: Tensor, degree: int, coefficients: Tensor, *, constant: bool = True) -> Tensor:
    """All monomials of x [d] up to `degree`, each once, times the coefficient of their degree (Atlas §3.1).

    Degree by degree, lexicographic inside a degree (x0 x0, x0 x1, .., x1 x1, ..); coefficients [degree + 1], the first
    for the constant 1, which `constant=False` leaves out.
    """
    features = []
    for power in range(0 if constant else 1, degree + 1):
        for places in combinations_with_replacement(range(len(x)), power):
            features.append(coefficients[power] * torch.stack([x.new_ones(()), *(x[i] for i in places)]).prod())
    return torch.stack(features)


def _omega(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    gamma: Tensor,
    window: int,
    chunk: int,
    read: Read,
    bias: Bias,
    scale: float,
) -> tuple[Tensor, State]:
    weights = anchor = start
    outputs = []
    for t in range(len(q)):
        if t % chunk == 0:
            anchor = weights
        before = weights
        step = gradient(windowed(net, k, v, gamma, t, window, bias, scale), anchor)
        weights = mix((alpha[t], weights), (-1.0, step))
        outputs.append(net(visible(read, anchor, before, weights), q[t]))
    return torch.stack(outputs), {"weights": weights}


def _orthogonal(momentum: Params, rounds: int) -> Params:
    return {name: newton_schulz(s, [QUINTIC] * rounds) if s.dim() == 2 else s for name, s in momentum.items()}
