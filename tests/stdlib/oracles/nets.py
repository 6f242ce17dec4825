"""Networks that the oracles use as memories, and arithmetic on their weights.

A network is a function `f(params, x [d_in]) -> [d_out]`; matrices act from the right, `y = x @ W` with `W: [in, out]`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

Params = dict[str, Tensor]
Net = Callable[[Params, Tensor], Tensor]
State = dict[str, Params]
Objective = Callable[[Params], Tensor]
Read = Literal["after", "before", "start"]

# Muon's quintic (Jordan et al. 2024); the same triple in every round.
QUINTIC = (3.4445, -4.7750, 2.0315)


def matrix(params: Params, x: Tensor) -> Tensor:
    """x w, with w [in, out]."""
    return x @ params["w"]


def mlp(params: Params, x: Tensor) -> Tensor:
    """gelu(x up) down, with the exact GELU."""
    return gelu(x @ params["up"]) @ params["down"]


def residual_mlp(params: Params, x: Tensor) -> Tensor:
    """x + gelu(x up) down (Nested Learning eqs 89, 91; Atlas)."""
    return x + mlp(params, x)


def gated_mlp(params: Params, x: Tensor) -> Tensor:
    """x + (gelu(x up) * (x gate)) down (Atlas++)."""
    return x + (gelu(x @ params["up"]) * (x @ params["gate"])) @ params["down"]


def swiglu(params: Params, x: Tensor) -> Tensor:
    """(silu(x gate) * (x up)) down (LaCT: W_0 = gate, W_1 = down, W_2 = up)."""
    return (silu(x @ params["gate"]) * (x @ params["up"])) @ params["down"]


def ttt_linear(params: Params, x: Tensor) -> Tensor:
    """x w + b."""
    return x @ params["w"] + params["b"]


def ttt_mlp(params: Params, x: Tensor) -> Tensor:
    """gelu(x up + up_bias) down + down_bias, with the tanh form of the GELU."""
    hidden = gelu(x @ params["up"] + params["up_bias"], approximate="tanh")
    return hidden @ params["down"] + params["down_bias"]


def miras_mlp(gain: Tensor, bias: Tensor, eps: float = 1e-6) -> Net:
    """x + LN(gelu(x up) down); gain and bias [d] belong to a slower level, so they are no part of the fast weights."""

    def net(params: Params, x: Tensor) -> Tensor:
        return x + layer_norm(mlp(params, x), gain, bias, eps)

    return net


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * gain + bias over the last axis, with the biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * gain + bias


def gradient(objective: Objective, at: Params) -> Params:
    """Gradient of a scalar objective at the given weights; outer autograd runs through the result."""
    return cast(Params, torch.func.grad(objective)(at))


def square_error(net: Net, k: Tensor, v: Tensor) -> Objective:
    """1/2 ||net(k) - v||^2 as a function of the weights."""
    return lambda params: 0.5 * ((net(params, k) - v) ** 2).sum()


def mix(*terms: tuple[Tensor | float, Params]) -> Params:
    """Sum of factor * weights, matrix by matrix."""
    (factor, first), *others = terms
    total = {name: factor * w for name, w in first.items()}
    for factor, params in others:
        total = {name: w + factor * params[name] for name, w in total.items()}
    return total


def zeros_like(params: Params) -> Params:
    """Zeros of the same shapes."""
    return {name: torch.zeros_like(w) for name, w in params.items()}


def visible(read: Read, start: Params, before: Params, after: Params) -> Params:
    """The weights a token reads: after its own write, before it, or as they stood at the start of its chunk."""
    return {"after": after, "before": before, "start": start}[read]


def newton_schulz(g: Tensor, schedule: Sequence[tuple[float, float, float]], eps: float = 1e-7) -> Tensor:
    """Orthogonalise a matrix: x = g / (||g||_F + eps), then x <- a x + (b x x^T + c (x x^T)^2) x for each (a, b, c).

    A tall matrix is transposed first, so that the Gram matrix is the smaller one.
    """
    tall = g.shape[0] > g.shape[1]
    x: Tensor = (g.T if tall else g) / (torch.linalg.norm(g) + eps)
    for a, b, c in schedule:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
