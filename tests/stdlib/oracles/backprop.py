"""Back-propagation, and the same update as memories of local errors. Nested Learning eqs 8-9 and 29-31.

A stack of linear layers W_l: [d_l, d_l+1] with tanh between them, none after the last. Both functions return the
weights after one step of rate lr on loss(y), a number, where y: [T, d_out] is what the stack makes of x: [T, d_in].
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .common import Scalar

Loss = Callable[[Tensor], Tensor]


def backprop_step(weights: Sequence[Tensor], x: Tensor, loss: Loss, lr: Scalar) -> list[Tensor]:
    """W_l - lr dL/dW_l, the derivative taken by automatic differentiation of the whole stack (eq 1)."""

    def whole(*stack: Tensor) -> Tensor:
        hidden = x
        for weight in stack[:-1]:
            hidden = torch.tanh(hidden @ weight)
        return loss(hidden @ stack[-1])

    slopes = torch.func.grad(whole, argnums=tuple(range(len(weights))))(*weights)
    return [weight - lr * slope for weight, slope in zip(weights, slopes, strict=True)]


def memory_step(weights: Sequence[Tensor], x: Tensor, loss: Loss, lr: Scalar) -> list[Tensor]:
    """Each layer learns, with its inputs as keys, its local errors as values (eqs 9 and 31).

    W_l <- argmin_W sum_t <x_t W, delta_t> + |W - W_l|^2 / (2 lr), whose minimum is W_l - lr sum_t x_t^T delta_t. The
    errors come from the layer above: delta_l = (delta_l+1 W_l+1^T) (1 - tanh(z_l)^2), (29), and grad L(y) at the top.
    """
    keys = [x]
    for weight in weights[:-1]:
        keys.append(torch.tanh(keys[-1] @ weight))
    error = torch.func.grad(loss)(keys[-1] @ weights[-1])
    learned: list[Tensor] = []
    for weight, key in zip(reversed(weights), reversed(keys), strict=True):
        learned.insert(0, weight - lr * sum_of_outer_products(key, error))
        # A key is the tanh of the layer below, so this is that layer's error; below the first layer it is not used.
        error = (error @ weight.mT) * (1 - key**2)
    return learned


def sum_of_outer_products(keys: Tensor, values: Tensor) -> Tensor:
    """sum_t keys_t^T values_t; keys: [T, n], values: [T, m]. Returns [n, m]."""
    total = keys.new_zeros(keys.shape[1], values.shape[1])
    for key, value in zip(keys, values, strict=True):
        total = total + torch.outer(key, value)
    return total
