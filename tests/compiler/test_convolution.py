"""A convolution's own gradient: against differences, and against what autograd makes of the sum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nldsl.compiler.convolution import Convolution
from torch import Tensor
from torch.func import grad, vmap

Function = Callable[[Tensor, Tensor], Tensor]


def convolution(row: Tensor, kernel: Tensor) -> Tensor:
    return Convolution.apply(row, kernel)  # type: ignore[no-any-return, no-untyped-call]


def by_sum(row: Tensor, kernel: Tensor) -> Tensor:
    ticks = row.shape[1] - kernel.shape[-2] + 1
    return torch.stack([kernel[..., j, :] * row[:, j : j + ticks] for j in range(kernel.shape[-2])]).sum(0)


def drawn(*lead: int, heads: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    row = torch.randn(*lead, 2, 9, heads, 3, dtype=torch.float64, generator=made)
    return row, torch.randn(*lead, 1, 1, heads, 4, 3, dtype=torch.float64, generator=made)


@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_of_all_orders(heads: int) -> None:
    given = tuple(x.requires_grad_() for x in drawn(heads=heads))
    assert torch.autograd.gradcheck(convolution, given)
    assert torch.autograd.gradgradcheck(convolution, given)


@pytest.mark.parametrize("mapped", [(0, 0), (None, 0), (0, None)])
@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_under_transforms(mapped: tuple[int | None, int | None], argument: int) -> None:
    def found(function: Function) -> Tensor:
        cubes = grad(lambda row, kernel: (function(row, kernel) ** 3).sum(), argument)
        one, many = drawn(), drawn(5)
        given = (b if axis == 0 else a for a, b, axis in zip(one, many, mapped, strict=True))
        return vmap(cubes, mapped)(*given)  # type: ignore[no-any-return]

    torch.testing.assert_close(found(convolution), found(by_sum), rtol=1e-12, atol=1e-12)
