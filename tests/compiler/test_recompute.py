"""Chunks that are computed again in the backward pass: the same numbers, and less kept for it."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.recompute import measured, stretch
from torch import Tensor

import nldsl
from compiler.programs import given

BUDGET = 60_000  # bytes: less than the chunks of these programs keep


def trained(name: str, budget: int, ticks: int) -> tuple[list[Tensor], int]:
    """Outputs and gradients, and the bytes that were kept between the two passes."""
    sizes = {"chunk": 4} if "Delta" not in name else {}
    module = nldsl.compile(name, dim=8, heads=2, dtype=torch.float64, memory_budget=budget, **sizes)
    module.runner.steps.patience = 0
    x = given(module, ticks).requires_grad_()
    module(x)  # bodies are traced
    (y, _), kept = measured(lambda: module(x))
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])], kept


@pytest.mark.parametrize(
    ("name", "ticks", "share"),
    [
        ("std.titans:LMM", 90, 0.2),
        ("std.hope:SelfModifyingTitans", 90, 0.2),
        ("std.delta:GatedDeltaNet", 700, 0.2),  # most of it is of what stands around the loop
    ],
)
def test_the_same_with_less_memory(name: str, ticks: int, share: float) -> None:
    (all_kept, much), (again, little) = (trained(name, budget, ticks) for budget in (0, BUDGET))
    for one, other in zip(again, all_kept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert little < share * much


def test_no_gradient_no_stretches() -> None:
    module = nldsl.compile("std.titans:LMM", dim=8, heads=2, chunk=4, memory_budget=BUDGET)
    plain = nldsl.compile("std.titans:LMM", dim=8, heads=2, chunk=4)
    plain.runner.steps.patience = 0
    x = given(plain, 40)
    with torch.no_grad():
        assert torch.equal(module(x)[0], plain(x)[0])


@pytest.mark.parametrize(
    ("chunks", "each", "state", "budget", "expected"),
    [
        (100, 10, 4, 0, 0),  # no budget
        (100, 10, 4, 1000, 0),  # all fits
        (100, 10, 4, 500, 1),  # a state for every chunk, and one chunk
        (100, 10, 4, 200, 3),  # 34 states and 3 chunks
        (100, 10, 4, 1, 6),  # the least there is: sqrt(100 * 4 / 10)
    ],
)
def test_the_shortest_stretch_that_fits(chunks: int, each: int, state: int, budget: int, expected: int) -> None:
    assert stretch(chunks, each, state, budget) == expected
