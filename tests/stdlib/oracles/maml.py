"""Meta-learned initial weights. Finn et al. 2017, "Model-Agnostic Meta-Learning"; Nested Learning eq 28."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from .common import Result, Scalar, State

Data = TypeVar("Data")


def maml(
    loss: Callable[[State, Data], Tensor],
    theta: State,
    tasks: Sequence[tuple[Data, Data]],
    inner_lr: Scalar,
    steps: int,
    *,
    first_order: bool = False,
) -> Result:
    """The outer loss sum_i L(phi_i; outer data of task i), [], and its gradient by theta, named as theta.

    phi_i is theta after `steps` steps phi <- phi - inner_lr grad L(phi; inner data of task i). Each task is a pair
    (inner data, outer data), twice the same for eq 28 as printed. The gradient goes through the inner steps; with
    `first_order` the inner gradients count as data.
    """

    def outer(start: State) -> Tensor:
        losses = []
        for inner_data, outer_data in tasks:
            phi = start
            for _ in range(steps):
                slope = torch.func.grad(loss)(phi, inner_data)
                phi = {
                    name: weight - inner_lr * (slope[name].detach() if first_order else slope[name])
                    for name, weight in phi.items()
                }
            losses.append(loss(phi, outer_data))
        return torch.stack(losses).sum()

    gradient, value = torch.func.grad_and_value(outer)(theta)
    return value, gradient
