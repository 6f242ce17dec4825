"""A compiled module without gradients, in inference mode, evaluating, in other dtypes, under autocast, on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from nldsl.compiler import halves
from nldsl.compiler.module import CompiledModule
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import nldsl
from compiler.programs import PROGRAMS, furthest, given, program, squares, stirred

TICKS = 13
BLOCKS = ["SelfModifyingTitans", "LMM", "TTTLinear", "DeltaNet", "GatedDeltaNet", "Attention"]

# The square root of a sum that is 0 at the first tick, and a projection, inside the loop that the memory carries.
ROOT = """\
net empty(d) over x: [d] -> [d] {
  param w: [d, d] = zeros
  return x @ w
}

block Root(dim = 8) over x: [dim] -> [dim] {
  memory M = empty(dim)
  y = M(x) / (1 + sqrt(sum(M(x)^2)))
  t = x + y |> linear(dim)
  learn M : x -> t minimizing huber(1) by gd(0.1) every token
  return y + t
}
"""

# No product but those of its memory.
BARE = """\
block Bare(dim = 8) over x: [dim] -> [dim] {
  memory M = mlp(dim)
  learn M : x -> x minimizing l2 by momentum(0.1) every token hold gradient for 4 tokens
  return M(x)
}
"""


def floats(state: Any) -> set[torch.dtype]:
    return {x.dtype for x in tree_leaves(state) if x.is_floating_point()}


# Without gradients


@pytest.mark.parametrize("name", ["Hope", "Titans", "Attention"])
def test_outputs_are_the_same_with_and_without_gradients(name: str) -> None:
    module = program(name, torch.float32)
    x = given(module, TICKS)
    expected, _ = module(x)
    assert expected.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(module(x)[0], expected)
    module.eval()
    assert torch.equal(module(x)[0], expected)
    module.train()
    assert torch.equal(module(x)[0], expected)


@pytest.mark.parametrize("name", ["Hope", "Titans", "TTT", "DeltaNet"])
def test_memories_learn_at_inference(name: str) -> None:
    module = program(name).eval()
    x = given(module, 33)
    with torch.inference_mode():
        _, state = module(x[:, :1])
        before = {n: w.clone() for n, w in module.weights(state).items()}
        _, state = module(x[:, 1:], state)
    after = module.weights(state)
    assert after.keys() == before.keys() and after
    assert all(not torch.equal(after[n][row], before[n][row]) for n in after for row in range(2))


@pytest.mark.parametrize("name", ["Hope", "LMM", "Attention"])
def test_training_goes_on_from_a_state_of_inference_mode(name: str) -> None:
    module = program(name)
    x, rest = given(module, TICKS), given(module, 5, seed=1)
    parameters = list(module.parameters())

    def gradients(state: Any) -> list[Tensor]:
        found = torch.autograd.grad((module(rest, state)[0] ** 2).sum(), parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    with torch.inference_mode():
        _, state = module(x)
    assert furthest(gradients(state), gradients(module(x)[1])) == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_body_that_was_traced_without_gradients_is_not_trained_with(mode: Callable[[], Any]) -> None:
    """The derivative of a square root at 0 is 0; without gradients it has another, faster form."""
    module, plain = (nldsl.compile_text(ROOT, dtype=torch.float64) for _ in range(2))
    module.runner.steps.patience = 0
    x = given(module, 6)
    with mode():
        module(x)
    found = squares(module, x)
    assert all(g.isfinite().all() for g in found)
    assert furthest(found, squares(plain, x)) <= 1e-12


# Other dtypes

WAYS: dict[str, Callable[[CompiledModule], nn.Module]] = {
    "double": lambda module: module.double(),
    "to": lambda module: module.to(torch.float64),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_may_change_its_dtype(way: str) -> None:
    for name in ("Hope", "LMM", "TTTLinear", "Attention"):
        module = program(name, torch.float32)
        x = given(module, TICKS)
        before, _ = module(x)
        WAYS[way](module)
        y, state = module(x)
        assert module.dtype == y.dtype == torch.float64
        assert floats(state) == {torch.float64}
        assert torch.allclose(y.float(), before, rtol=1e-3, atol=1e-4)
        module.float()
        assert torch.equal(module(x)[0], before)


def test_what_was_traced_is_of_its_dtype() -> None:
    module = stirred(nldsl.compile_text(ROOT))
    module.runner.steps.patience = 0
    x = given(module, 6)
    before, _ = module(x)
    y, state = module.double()(x)
    assert floats(state) == {y.dtype} == {torch.float64}
    assert torch.allclose(y.float(), before, rtol=1e-4, atol=1e-5)


def test_a_module_is_compiled_in_a_dtype() -> None:
    path, hyper = PROGRAMS["Hope"]
    for dtype in (torch.float32, torch.float64):
        module = nldsl.compile(path, **hyper, dtype=dtype)
        y, state = module(given(module, TICKS))
        assert {p.dtype for p in module.parameters()} == floats(state) == {y.dtype} == {dtype}


def test_a_program_without_parameters_changes_its_dtype_too() -> None:
    text = "block Sum over x: [4] -> [4] { state s: [4] = 0  s <- s + x  return s }"
    module = nldsl.compile_text(text).double()
    assert not list(module.parameters()) and not module.state_dict()
    y, state = module(torch.ones(1, 3, 4))
    assert y.dtype == torch.float64 and floats(state) == {torch.float64}
    assert y[0, :, 0].tolist() == [1, 2, 3]


# Autocast


def bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("name", ["Hope", "HopeAttention", "Titans", "TTT", *BLOCKS])
def test_under_autocast_only_projections_are_rounded(name: str) -> None:
    """States, and so gates and inner gradients, stay in float32; outputs and gradients stay near."""
    module = program(name, torch.float32)
    x = given(module, TICKS)
    expected, slopes = module(x)[0], flat(squares(module, x))
    with bfloat16():
        y, state = module(x)
        found = squares(module, x)
        rest, after = module(x, tree_map(torch.detach, state))
    assert y.dtype == torch.float32 and floats(state) == floats(after) == {torch.float32}
    assert rest.isfinite().all()
    assert all(g.isfinite().all() and g.dtype is torch.float32 for g in found)
    assert 0 < apart(y, expected) < 0.02, "the projections are rounded, and little else is lost"

    for p in module.parameters():
        p.data = p.data.bfloat16().float()
    rounded = flat(squares(module, x.bfloat16().float() if x.is_floating_point() else x))
    assert apart(flat(found), slopes) < 6 * apart(rounded, slopes), "no more than rounded numbers lose"


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def apart(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm().detach() / exact.norm().detach())


def test_autocast_rounds_products_of_what_learns_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones not on a CPU; and never what a memory keeps."""
    module = stirred(nldsl.compile_text(BARE))
    x = torch.nn.functional.normalize(given(module, TICKS), dim=-1)
    expected, _ = module(x)
    with bfloat16():
        assert torch.equal(module(x)[0], expected)
        monkeypatch.setattr(halves, "ENOUGH", {})
        y, state = module(x)
    assert 0 < apart(y, expected) < 0.02
    assert y.dtype is torch.float32 and floats(state) == {torch.float32}


@pytest.mark.parametrize("patience", [8, 0])
def test_gradients_are_taken_inside_autocast_too(patience: int) -> None:
    """What a backward pass runs has its types already."""
    module = program("DeltaNet", torch.float32)
    module.runner.steps.patience = patience
    x = given(module, TICKS)
    with bfloat16():
        loss = module(x)[0].square().mean()
        inside = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    outside = torch.autograd.grad(loss, list(module.parameters()))
    assert apart(flat([*inside]), flat([*outside])) < (1e-6 if patience == 0 else 0.02)


def test_autocast_leaves_other_dtypes_alone() -> None:
    module = program("TTT")
    x = given(module, TICKS)
    expected, _ = module(x)
    with bfloat16():
        assert torch.equal(module(x)[0], expected)
    with torch.autocast("cpu", enabled=False):
        assert torch.equal(module(x)[0], expected)


def test_autocast_reaches_traced_bodies() -> None:
    """Whatever was traced first, with it or without."""
    module, plain = (stirred(nldsl.compile_text(ROOT)) for _ in range(2))
    module.runner.steps.patience = 0
    x = given(module, 6)
    for mode in (bfloat16, nullcontext, bfloat16, nullcontext):
        with mode():
            assert torch.equal(module(x)[0], plain(x)[0])


def test_losses_and_training_steps_under_autocast() -> None:
    module = program("Hope", torch.float32)
    ids = given(module, TICKS)
    exact, _ = module.backward(ids)
    with bfloat16():
        mean, state = module.backward(ids)
        losses, known, _ = module.losses(ids)
    assert losses.dtype == mean.dtype == torch.float32 and floats(state) == {torch.float32}
    assert abs(mean - exact) < 0.02 * exact
    assert torch.isclose(losses[known].mean(), mean)
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


# On a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("patience", [8, 0])
@pytest.mark.parametrize("name", ["Hope", "Titans", "TTT", "DeltaNet", "Attention"])
def test_a_module_moves_to_a_gpu(name: str, patience: int) -> None:
    module = program(name)
    x = given(module, TICKS)
    expected, slopes = module(x)[0], squares(module, x)
    module.to("cuda")
    module.runner.steps.patience = patience
    y, state = module(x.cuda())
    assert all(v.is_cuda for v in tree_leaves(state))
    assert torch.allclose(y.cpu(), expected, rtol=1e-8, atol=1e-8)
    assert furthest([g.cpu() for g in squares(module, x.cuda())], slopes) < 1e-8
    mask = torch.arange(TICKS) < torch.tensor([[TICKS], [5]])
    padded, _ = module(x.cuda(), mask=mask.cuda())
    assert torch.allclose(padded[mask.cuda()].cpu(), expected[mask], rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="is on cpu and the module on cuda"):
        module(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", ["Hope", "TTT", "Attention"])
def test_autocast_on_a_gpu(name: str) -> None:
    module = program(name, torch.float32).to("cuda")
    x = given(module, TICKS).cuda()
    expected, _ = module(x)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y, state = module(x)
    assert y.dtype == torch.float32 and floats(state) == {torch.float32}
    assert 0 < (y - expected).norm() < 0.02 * expected.norm()
