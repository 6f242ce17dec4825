"""MesaNet: in-context ridge regression, solved anew for each token. von Oswald et al. 2025, "MesaNet"."""

from collections.abc import Callable

import torch
from torch import Tensor

from .common import Result, matrix_or_zeros


def mesa_net(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    lam: Tensor,
    start_G: Tensor | None = None,
    start_H: Tensor | None = None,
) -> Result:
    """G <- g G + beta k v^T, H <- g H + beta k k^T, y = q (H + diag(lam))^-1 G, solved exactly.

    q, k: [T, d_k]; v: [T, d_v]; g, beta: [T]; lam: [d_k]; start_G: [d_k, d_v] and start_H: [d_k, d_k], default zeros.
    Returns y [T, d_v] and the state G, H. Raises torch.linalg.LinAlgError where H + diag(lam) is singular.
    """
    return _mesa(q, k, v, g, beta, lam, start_G, start_H, torch.linalg.solve)


def mesa_net_cg(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    lam: Tensor,
    rounds: int,
    start_G: Tensor | None = None,
    start_H: Tensor | None = None,
) -> Result:
    """`mesa_net` with (H + diag(lam))^-1 q by `rounds` rounds of conjugate gradients, started at zero.

    Shapes as in `mesa_net`. H + diag(lam) has to be positive definite.
    """
    return _mesa(q, k, v, g, beta, lam, start_G, start_H, lambda a, b: conjugate_gradients(a, b, rounds))


def conjugate_gradients(a: Tensor, b: Tensor, rounds: int) -> Tensor:
    """x with a x = b, started at zero (Hestenes and Stiefel 1952). a: [n, n], symmetric positive definite; b: [n].

    Derivatives are those of the rounds. Past convergence the directions are rounding: values and, with rounds to spare,
    first derivatives still agree with the exact solve, second derivatives don't; where the residual is exactly zero
    early (b an eigenvector of a), first derivatives don't either.
    """
    solution = torch.zeros_like(b)
    residual = direction = b
    for _ in range(rounds):
        image = a @ direction
        step = _ratio(residual @ residual, direction @ image)
        solution = solution + step * direction
        left = residual - step * image
        direction = left + _ratio(left @ left, residual @ residual) * direction
        residual = left
    return solution


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 once `below` has vanished: the solution is exact then and must stay."""
    alive = below > torch.finfo(below.dtype).tiny
    return torch.where(alive, above / torch.where(alive, below, torch.ones_like(below)), torch.zeros_like(below))


def _mesa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    lam: Tensor,
    start_G: Tensor | None,
    start_H: Tensor | None,
    solve: Callable[[Tensor, Tensor], Tensor],
) -> Result:
    G = matrix_or_zeros(start_G, k, v)
    H = matrix_or_zeros(start_H, k, k)
    outputs = []
    for q_t, k_t, v_t, g_t, beta_t in zip(q, k, v, g, beta, strict=True):
        G = g_t * G + beta_t * torch.outer(k_t, v_t)
        H = g_t * H + beta_t * torch.outer(k_t, k_t)
        outputs.append(solve(H + torch.diag(lam), q_t) @ G)
    return torch.stack(outputs), {"G": G, "H": H}
