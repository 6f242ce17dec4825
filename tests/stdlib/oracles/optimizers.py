"""Optimizers on a given sequence of gradients.

Every function takes gradients g: [T, n, m] of a weight W: [n, m] that acts as y = x @ W, start weights w0: [n, m], and
returns the weights after each update: [T, n, m]. Accumulators start at zero.
Nested Learning sections 4 and 7.2; torch.optim for Nesterov, Adam, AdamW; Jordan et al. 2024 for Muon.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu

from .common import Scalar
from .nets import QUINTIC, newton_schulz


def gd(g: Tensor, w0: Tensor, lr: Scalar) -> Tensor:
    """W <- W - lr g (Nested Learning eq 1)."""
    weights = [w0]
    for g_t in g:
        weights.append(weights[-1] - lr * g_t)
    return torch.stack(weights[1:])


def momentum(g: Tensor, w0: Tensor, lr: Scalar, alpha: Scalar) -> Tensor:
    """m <- alpha m - lr g, W <- W + m (eq 33)."""
    m = torch.zeros_like(w0)
    weights = [w0]
    for g_t in g:
        m = alpha * m - lr * g_t
        weights.append(weights[-1] + m)
    return torch.stack(weights[1:])


def nesterov(g: Tensor, w0: Tensor, lr: Scalar, mu: Scalar) -> Tensor:
    """m <- mu m + g, W <- W - lr (g + mu m): torch.optim.SGD with nesterov=True."""
    m = torch.zeros_like(w0)
    weights = [w0]
    for g_t in g:
        m = mu * m + g_t
        weights.append(weights[-1] - lr * (g_t + mu * m))
    return torch.stack(weights[1:])


def delta_momentum(
    g: Tensor,
    w0: Tensor,
    lr: Scalar,
    alpha: Scalar,
    preconditioner: Tensor | None = None,
    erase: Scalar | None = None,
) -> Tensor:
    """m <- (alpha I - erase g g^T) m - lr g P, W <- W + m (eq 49 in rows).

    `erase` defaults to lr: the gradient step on 1/2 |m_col g_col^T + P|^2, the print's missing rate put back; 1 gives
    the print. `preconditioner` P: [m, m], default the identity.
    """
    p = torch.eye(w0.shape[1], dtype=w0.dtype) if preconditioner is None else preconditioner
    rate = lr if erase is None else erase
    m = torch.zeros_like(w0)
    weights = [w0]
    for g_t in g:
        m = alpha * m - rate * (g_t @ (g_t.mT @ m)) - lr * (g_t @ p)
        weights.append(weights[-1] + m)
    return torch.stack(weights[1:])


def deep_momentum(
    g: Tensor,
    w0: Tensor,
    up: Tensor,
    down: Tensor,
    lr: Scalar,
    alpha: Scalar,
    *,
    loss_sign: float = 1.0,
    step_sign: float = 1.0,
    approximate: str = "none",
) -> Tensor:
    """theta <- alpha theta - lr grad_theta L(theta; g), W <- W + m_theta(g) with the new theta = (up, down) (eq 50).

    m_theta(z) = z + gelu(z up) down on each row of g. up: [m, h]; down: [h, m], their start weights. The paper leaves
    open: L = loss_sign * sum(m_theta(g)), the dot product with all ones, +1 as printed, -1 as the usual bias of a dot
    product; step_sign, the factor of m_theta(g), +1 as printed, though with it the residual part climbs; `approximate`,
    gelu's form, "none" or "tanh". The rows' losses are summed.
    """

    def network(theta: tuple[Tensor, Tensor], z: Tensor) -> Tensor:
        return z + gelu(z @ theta[0], approximate=approximate) @ theta[1]

    def loss(theta: tuple[Tensor, Tensor], z: Tensor) -> Tensor:
        return loss_sign * network(theta, z).sum()

    weights = [w0]
    for g_t in g:
        grad_up, grad_down = torch.func.grad(loss)((up, down), g_t)
        up, down = alpha * up - lr * grad_up, alpha * down - lr * grad_down
        weights.append(weights[-1] + step_sign * network((up, down), g_t))
    return torch.stack(weights[1:])


def adam(
    g: Tensor,
    w0: Tensor,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Tensor:
    """torch.optim.Adam: bias-corrected moments, eps outside the root, weight decay added to the gradient."""
    return _adam(g, w0, lr, beta1, beta2, eps, l2=weight_decay, shrink=0.0)


def adamw(
    g: Tensor,
    w0: Tensor,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Tensor:
    """torch.optim.AdamW: Adam after W <- (1 - lr weight_decay) W."""
    return _adam(g, w0, lr, beta1, beta2, eps, l2=0.0, shrink=lr * weight_decay)


def _adam(
    g: Tensor, w0: Tensor, lr: float, beta1: float, beta2: float, eps: float, *, l2: float, shrink: float
) -> Tensor:
    first, second = torch.zeros_like(w0), torch.zeros_like(w0)
    weights = [w0]
    for step, g_t in enumerate(g, start=1):
        grad = g_t + l2 * weights[-1]
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad**2
        size = lr / (1 - beta1**step)
        root = second.sqrt() / math.sqrt(1 - beta2**step)
        weights.append((1 - shrink) * weights[-1] - size * first / (root + eps))
    return torch.stack(weights[1:])


def muon(g: Tensor, w0: Tensor, lr: Scalar, beta: Scalar = 0.95, rounds: int = 5, eps: float = 1e-7) -> Tensor:
    """m <- beta m + (1 - beta) g, u = beta m + (1 - beta) g, W <- W - lr sqrt(max(1, m/n)) NS(u) (Jordan et al. 2024).

    The factor is out/in, as W is [in, out] here.
    """
    scale = math.sqrt(max(1.0, w0.shape[1] / w0.shape[0]))
    m = torch.zeros_like(w0)
    weights = [w0]
    for g_t in g:
        m = beta * m + (1 - beta) * g_t
        look_ahead = beta * m + (1 - beta) * g_t
        weights.append(weights[-1] - lr * scale * newton_schulz(look_ahead, [QUINTIC] * rounds, eps))
    return torch.stack(weights[1:])


def dgd(g: Tensor, keys: Tensor, w0: Tensor, lr: Scalar) -> Tensor:
    """W <- W - lr' x^T (x W) - lr' g with lr' = lr / (1 + lr |x|^2): delta gradient descent (eqs 56-57).

    keys x: [T, n], the inputs of the layer, with g = x^T (gradient at the output). This is the exact minimum of (56);
    the printed lr / (1 + lr) holds for |x| = 1 only.
    """
    weights = [w0]
    for g_t, x_t in zip(g, keys, strict=True):
        w = weights[-1]
        rate = lr / (1 + lr * (x_t @ x_t))
        weights.append(w - rate * (torch.outer(x_t, x_t @ w) + g_t))
    return torch.stack(weights[1:])


def m3(
    g: Tensor,
    w0: Tensor,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    beta3: Scalar,
    alpha: Scalar,
    slow_every: int,
    rounds: int = 5,
    eps: float = 1e-8,
    coefficients: tuple[float, float, float] = QUINTIC,
) -> Tensor:
    """Multi-scale momentum Muon (Algorithm 1 as printed, where nothing decays).

    Each update: fast <- fast + beta1 g, v <- v + beta2 g^2, W <- W - lr (NS(fast) + alpha NS(slow)) / (sqrt(v) + eps).
    After `slow_every` updates: slow <- slow + beta3 (their gradients' sum), in use from the next update on. The sum has
    `slow_every` terms, not the print's one more. The paper names no Newton-Schulz coefficients: Muon's by default.
    """
    fast, slow, second, pending = (torch.zeros_like(w0) for _ in range(4))
    weights = [w0]
    for step, g_t in enumerate(g, start=1):
        fast, second, pending = fast + beta1 * g_t, second + beta2 * g_t**2, pending + g_t
        direction = newton_schulz(fast, [coefficients] * rounds) + alpha * newton_schulz(slow, [coefficients] * rounds)
        weights.append(weights[-1] - lr * direction / (second.sqrt() + eps))
        if step % slow_every == 0:
            slow, pending = slow + beta3 * pending, torch.zeros_like(pending)
    return torch.stack(weights[1:])
