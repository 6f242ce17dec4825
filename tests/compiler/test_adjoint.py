"""Bodies with a backward pass of their own give what autograd gives, whatever was rewritten in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nldsl.compiler.bodies.adjoint import Adjoint
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.nodes import results_of
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import gelu, silu

Function = Callable[..., list[Tensor]]
aten = torch.ops.aten


def read_and_write(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """A memory with a momentum: [2, 2, 64, 64] twice, rows [2, 3, 2, 64], gates [3, 2, 2, 1, 1]."""
    rows, known = x.transpose(1, 2), r.transpose(1, 2)
    answer = gelu(rows @ w) + gelu(rows @ s)
    after = gates[0] * w + gates[1] * s + rows.mT @ known
    return [after, gates[2] * s + rows.mT @ (0.5 * known), answer.transpose(1, 2)]


def inner_gradient(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """What a memory learns: the slope is asked for three times, constants and powers come out of the loss."""

    def loss(v: Tensor) -> Tensor:
        return (0.5 * (silu(x.transpose(1, 2) @ v) - r.transpose(1, 2)).pow(2).sum(-1)).sum()

    return [w - gates[0] * torch.func.grad(loss)(w) + 0.0 * s]


def through_and_twice(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """An input that is a result, one result under two places, one without a gradient, a view of an input."""
    total = w + s
    return [w, total, total, (x > 0).long(), r.transpose(1, 2), total.unsqueeze(1).squeeze(1)]


def shared_rows(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """Products with one matrix, of which one needs another; a cut product; a number times all."""
    first = x.transpose(1, 2) @ w
    second = first @ w
    both = torch.cat([first, second], 2) @ s
    upper, lower = both.split(3, 2)
    return [(upper * 2.0 * 0.5 + lower / 3).exp(), -both.transpose(1, 2), second.clone()]


def held(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """A write that nothing learns through."""
    return [w.detach() * s + gates[0] * (x.transpose(1, 2).mT @ r.transpose(1, 2)).detach()]


def stopped(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """Equal results of which a gradient goes through some, through others not, or in part."""
    return [w * 2, w.detach() * 2, w.exp() * s, w.detach().exp() * s, w.exp() * s.detach()]


def laid_as_the_product(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """A sum whose view counts on where its numbers lie."""
    return [(s * s.exp() + w.mT).view(2, 2, 64 * 64) * 2]


def views_of_all_kinds(w: Tensor, s: Tensor, x: Tensor, r: Tensor, gates: Tensor) -> list[Tensor]:
    """What looks like a tensor of its own may not be written over while its numbers are needed."""
    total = w * s
    diagonal, windows = total.diagonal(dim1=-2, dim2=-1), total.unfold(-1, 64, 1)
    lines = total.movedim(-1, 0)[0]
    return [diagonal + 1, windows.squeeze((0,)) * 2, lines * 3 + diagonal, total + 1, w.diagonal(dim1=-2, dim2=-1) * 4]


FUNCTIONS = [
    held,
    stopped,
    laid_as_the_product,
    views_of_all_kinds,
    read_and_write,
    inner_gradient,
    through_and_twice,
    shared_rows,
]


def given(seed: int = 0, learnt: str = "wsxrg") -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = {"w": (2, 2, 64, 64), "s": (2, 2, 64, 64), "x": (2, 3, 2, 64), "r": (2, 3, 2, 64), "g": (3, 2, 2, 1, 1)}
    made = {n: 0.3 * torch.randn(shape, dtype=torch.float64, generator=random) for n, shape in shapes.items()}
    return [x.requires_grad_(n in learnt) for n, x in made.items()]


def traced(function: Function) -> fx.GraphModule:
    return make_fx(function)(*(x.detach() for x in given()))


def body(function: Function, handed: dict[int, int] | None = None) -> Body:
    return Body(traced(function), handed or {}, None)


def loss_of(results: list[Tensor]) -> Tensor:
    return sum((x * x.detach().cos()).sum() for x in results if x.requires_grad)  # type: ignore[return-value]


def gradients(results: list[Tensor], inputs: list[Tensor], **options: Any) -> list[Tensor]:
    learnt = [x for x in inputs if x.requires_grad]
    found = torch.autograd.grad(loss_of(results), learnt, allow_unused=True, **options)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(learnt, found, strict=True)]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("learnt", ["wsxrg", "w", "xr", "sg", "x"])
def test_results_and_gradients_are_autograds(function: Function, learnt: str) -> None:
    run, inputs = body(function), given(1, learnt)
    before = [x.detach().clone() for x in inputs]
    for _ in range(2):
        found, expected = run(inputs, False), function(*inputs)
        same([x.detach() for x in found], [x.detach() for x in expected])
        if any(x.requires_grad for x in expected):
            same(gradients(found, inputs), gradients(expected, inputs))
    same([x.detach() for x in inputs], before)  # nothing is written over


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_gradients(function: Function) -> None:
    run, inputs = body(function), given(2)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            same(run(inputs, False), function(*inputs))
    assert not run.adjoints


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_backward_pass_can_be_run_again(function: Function) -> None:
    inputs = given(3)
    results, expected = body(function)(inputs, False), gradients(function(*inputs), inputs)
    for _ in range(2):
        same(gradients(results, inputs, retain_graph=True), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_gradient_of_a_gradient(function: Function) -> None:
    run, inputs = body(function), given(4)

    def twice(results: list[Tensor]) -> list[Tensor]:
        slopes = gradients(results, inputs, create_graph=True)
        total = sum(((g + 1).sin().sum() for g in slopes), loss_of(results))
        return list(torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True))

    same(twice(run(inputs, False)), twice(function(*inputs)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_under_the_transforms_of_torch(function: Function) -> None:
    run, inputs = body(function), [x.detach() for x in given(5)]

    def total(one: Function) -> Callable[..., Tensor]:
        return lambda *xs: sum(x.sum() for x in one(*xs) if x.is_floating_point())  # type: ignore[return-value]

    places = tuple(range(5))
    found, expected = (torch.func.grad(total(f), places)(*inputs) for f in (lambda *xs: run(xs, False), function))
    same(list(found), list(expected))


def test_one_adjoint_where_one_is_enough() -> None:
    run = body(read_and_write)
    run(given(0, "wsxrg"), False)
    run(given(0, "xr"), False)
    assert [a.wanted for a in run.adjoints] == [(True,) * 5]


def test_a_state_that_will_be_differentiated_is_at_once() -> None:
    """The first chunk's momentum is 0 and known; what it hands on is not."""
    run = body(read_and_write, {0: 0, 1: 1})
    after, momentum, _ = run(given(0, "x"), False)
    assert momentum.requires_grad and [a.wanted for a in run.adjoints] == [(True, True, True, False, False)]
    run([after, momentum, *given(0, "x")[2:]], False)
    assert len(run.adjoints) == 1


def test_what_will_be_computed_again_is_not_traced_meanwhile() -> None:
    run, inputs = body(read_and_write), given(6)
    same(gradients(run(inputs, True), inputs), gradients(read_and_write(*inputs), inputs))
    run(inputs, False)
    assert not run.adjoints, "the second time would have kept other tensors than the first"


@pytest.mark.parametrize("order", [(False, True, False), (True, False, True)])
def test_what_the_next_chunk_does_nothing_with_has_a_gradient_where_one_comes(order: tuple[bool, ...]) -> None:
    """`w` is handed on, and the next chunk makes another: only sometimes somebody else asks for it."""

    def step(w: Tensor, s: Tensor, x: Tensor, r: Tensor, g: Tensor) -> list[Tensor]:
        return [s + 1, s * 2 + x.transpose(1, 2).mT @ r.transpose(1, 2), x @ x.mT]

    run, inputs = body(step, {0: 0, 1: 1}), given(9)
    for asked in order:
        left = slice(0 if asked else 1, 3)
        same(gradients(run(inputs, False)[left], inputs), gradients(step(*inputs)[left], inputs))
    assert run.adjoints[0].silent == {0}
    assert not nodes(run.adjoints[0].way(True).__self__, aten.new_zeros.default)  # type: ignore[attr-defined]


def halves(adjoint: Adjoint) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Their graphs, whose `forward` is what runs."""
    return adjoint.forward.__self__, adjoint.way(True).__self__  # type: ignore[attr-defined]


def nodes(module: Any, target: Any) -> int:
    return sum(n.target == target for n in module.graph.nodes)


def test_weights_pass_through_memory_as_seldom_as_can_be() -> None:
    """No sum over a whole weight, no copy of one, every product of the backward pass added where it belongs."""
    inputs = given(7)
    adjoint = Adjoint(traced(read_and_write), inputs, (True,) * 5, {})
    forward, backward = halves(adjoint)
    assert nodes(forward, torch.baddbmm) == 2 and nodes(forward, "addcmul_") == 1
    whole = [tuple(n.meta["val"].shape) for n in backward.graph.nodes if n.target is torch.sum]
    assert all(s[-1] == 1 for s in whole), whole
    assert nodes(backward, torch.baddbmm) >= 2
    assert not nodes(backward, aten.clone.default)


def test_a_slope_is_worked_out_once_and_a_loss_that_nobody_reads_not_at_all() -> None:
    adjoint = Adjoint(traced(inner_gradient), given(8), (True,) * 5, {})
    forward, backward = halves(adjoint)
    both = [*forward.graph.nodes, *backward.graph.nodes]
    assert sum(n.target is aten.silu_backward.default for n in both) == 1
    assert not any(n.target is aten.pow.Tensor_Scalar for n in both)
    assert len(results_of(backward)) == 5
