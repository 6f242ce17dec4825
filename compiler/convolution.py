"""A convolution over time, with a gradient of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Convolution(torch.autograd.Function):
    """row [batch, ticks + width - 1, ...], kernel [..., width, channels] -> [batch, ticks, ...], a number at a time.

    By itself autograd would keep and add up a whole row for every number of the kernel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(row: Tensor, kernel: Tensor) -> Tensor:
        total = kernel[..., 0, :] * _part(row, kernel, 0)
        for j in range(1, kernel.shape[-2]):
            total = total.addcmul_(kernel[..., j, :], _part(row, kernel, j))
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor]:
        row, kernel = ctx.saved_tensors
        into, taps = given.new_zeros(row.shape), []
        for j in range(kernel.shape[-2]):
            tap = kernel[..., j, :]
            _part(into, kernel, j).addcmul_(tap, given)
            taps.append((given * _part(row, kernel, j)).sum_to_size(tap.shape))
        return into, torch.stack(taps, dim=-2)


def _part(row: Tensor, kernel: Tensor, j: int) -> Tensor:
    """The part of a row that a kernel's j-th number is for."""
    return row[:, j : j + row.shape[1] - kernel.shape[-2] + 1]
