"""Chunks that are computed again in the backward pass: the same numbers, and less kept for it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.recompute import stretch
from torch import Tensor

import nldsl
from benchmarks.speed.memory import Watch
from compiler.programs import given

BUDGET = 60_000  # bytes: less than the chunks of these programs keep


def trained(name: str, budget: int, ticks: int) -> tuple[list[Tensor], int]:
    """Outputs and gradients, and the bytes that are there between the two passes: what stands around the loops too."""
    sizes = {"chunk": 4} if "Delta" not in name else {}
    module = nldsl.compile(name, dim=8, heads=2, dtype=torch.float64, memory_budget=budget, **sizes)
    module.runner.steps.patience = 0
    x = given(module, ticks).requires_grad_()
    module(x)  # bodies are traced
    with Watch() as watch:
        y, _ = module(x)
        kept = watch.now
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])], kept


@pytest.mark.parametrize(
    ("name", "ticks", "share"),
    [
        ("std.titans:LMM", 90, 0.35),
        ("std.hope:SelfModifyingTitans", 90, 0.25),
        ("std.delta:GatedDeltaNet", 700, 0.15),
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


STEPS = """
block B(d = 8) over x: [d] -> [d] {
  memory M, K = matrix(d)
  learn K : x -> x minimizing l2 by gd(0.1) every step
  y = K(x) |> rmsnorm
  learn M : y -> x minimizing l2 by gd(0.1) every token hold state for 4 tokens
  return M(y) |> rmsnorm
}
"""


def test_a_learn_that_takes_gradients_between_memories() -> None:
    slopes = []
    for budget in (0, BUDGET // 100):
        module = CompiledModule(nldsl.load_text(STEPS), dtype=torch.float64, memory_budget=budget)
        x = given(module, 40).requires_grad_()
        for _ in range(2):
            module.zero_grad()
            module.backward(x)
        slopes.append([p.grad for p in module.parameters() if p.grad is not None])
    assert slopes[0]
    torch.testing.assert_close(*slopes)


def test_it_is_computed_again_in_the_precision_of_its_call() -> None:
    module = nldsl.compile("std.titans:LMM", dim=8, heads=2, chunk=4, memory_budget=BUDGET)
    x = given(module, 60).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)[0]
    module(x)
    y.float().square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_what_nobody_differentiates_is_freed() -> None:
    module = nldsl.compile("std.titans:LMM", dim=8, heads=2, chunk=4, memory_budget=BUDGET)
    y = module(given(module, 60).float())[0]
    known = weakref.ref(y)
    del y
    gc.collect()
    assert known() is None


def test_compiled_as_well() -> None:
    module = nldsl.compile("std.delta:GatedDeltaNet", dim=8, heads=2, dtype=torch.float64, memory_budget=BUDGET)
    plain = nldsl.compile("std.delta:GatedDeltaNet", dim=8, heads=2, dtype=torch.float64)
    module.compile(backend="aot_eager")
    x = given(module, 200)
    for _ in range(2):
        slopes = [torch.autograd.grad(m(x)[0].square().sum(), list(m.parameters())) for m in (module, plain)]
        torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("chunks", "each", "state", "budget", "expected"),
    [
        (100, 10, 4, 0, 0),  # no budget
        (100, 10, 4, 1000, 0),  # all fits
        (100, 10, 4, 500, 48),  # 3 states and 48 chunks
        (100, 10, 4, 200, 17),  # 6 states and 17 chunks
        (100, 10, 4, 1, 6),  # the least there is: sqrt(100 * 4 / 10)
    ],
)
def test_the_longest_stretch_that_fits(chunks: int, each: int, state: int, budget: int, expected: int) -> None:
    assert stretch(chunks, each, state, budget) == expected
