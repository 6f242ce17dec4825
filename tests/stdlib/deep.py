"""Random cases for the tests of the deep oracles, and the hand-written gradient of the memory they use most."""

import math

import torch
from torch import Tensor

from .oracles.nets import Params

GATES = torch.tensor([1.0, 0.3, 0.0, 2.0, 0.7, 1.0, 0.1], dtype=torch.float64)
T, D, H = len(GATES), 3, 4
Pairs = tuple[Tensor, Tensor, Tensor]


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-11) -> None:
    """Fail unless equal within the tolerance, relative and absolute."""
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def draw(*shape: int) -> Tensor:
    """Normal numbers with deviation 1/2."""
    return 0.5 * torch.randn(*shape, dtype=torch.float64)


def number(value: float) -> Tensor:
    """A scalar."""
    return torch.tensor(value, dtype=torch.float64)


def draw_pairs() -> Pairs:
    """q, k, v [T, D] with keys that share a component and one that repeats."""
    k = draw(T, D) + draw(D)
    k[4] = k[3]
    return draw(T, D), k, draw(T, D)


def mlp_start() -> Params:
    """Weights of an MLP with D inputs, H hidden units and D outputs."""
    return {"up": draw(D, H), "down": draw(H, D)}


def gelu_slope(x: Tensor) -> Tensor:
    """Derivative of x times the normal distribution function."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2 + x * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def mlp_pull(params: Params, x: Tensor, error: Tensor) -> Params:
    """Gradients of gelu(x up) down for a given gradient of its output, by hand."""
    a = x @ params["up"]
    hidden = a * (1 + torch.erf(a / math.sqrt(2))) / 2
    return {
        "up": torch.outer(x, (params["down"] @ error) * gelu_slope(a)),
        "down": torch.outer(hidden, error),
    }


def mlp_gradient(params: Params, k: Tensor, v: Tensor) -> Params:
    """Gradient of 1/2 ||gelu(k up) down - v||^2, by hand."""
    return mlp_pull(params, k, torch.nn.functional.gelu(k @ params["up"]) @ params["down"] - v)
