"""Chunks of a body that follow one another as one operation: what they would give one by one."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nldsl.compiler.bodies import scan
from nldsl.compiler.bodies.adjoint import Compiler
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.handing import compiler_of
from nldsl.compiler.bodies.scan import Scan, followed
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

Function = Callable[..., list[Tensor]]
CHUNKS, LEARNT = 5, "wmxrp"


def titans(w: Tensor, m: Tensor, x: Tensor, r: Tensor, p: Tensor) -> list[Tensor]:
    """A momentum, a weight [2, 6, 6], rows [2, 4, 6] of each chunk's own, a matrix of all chunks."""
    answer = gelu(x @ w)
    after = 0.9 * m - 0.1 * x.mT @ (answer - r @ p)
    return [w + after, after, answer]


def held(w: Tensor, m: Tensor, x: Tensor, r: Tensor, p: Tensor) -> list[Tensor]:
    """The second state is the first as it was a chunk before; it is read."""
    return [w * p.sum() + x.mT @ r, w, x @ m]


def restarted(w: Tensor, m: Tensor, x: Tensor, r: Tensor, p: Tensor) -> list[Tensor]:
    """One number everywhere; an input that is a result as it is; a result at two places, one of them a state."""
    after = w + (x @ p).mT @ r
    return [after, torch.zeros_like(m), after, r]


def turned(w: Tensor, m: Tensor, x: Tensor, r: Tensor, p: Tensor) -> list[Tensor]:
    """A state that does not lie as it did."""
    return [(w.mT + x.mT @ r).mT, (m + w).mT, (x @ w).mT]


def stopped(w: Tensor, m: Tensor, x: Tensor, r: Tensor, p: Tensor) -> list[Tensor]:
    """Equal results of which a gradient goes through some only."""
    return [w * p.sum() + x.mT @ r, w.detach() * p.sum() + x.mT @ r, x @ m, x @ w.detach(), x @ w, x.detach() @ w]


FUNCTIONS = [titans, held, restarted, turned, stopped]
BUDGETS = [0, 1, 2]


@pytest.fixture(autouse=True)
def a_budget_is_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many chunks: what fits is tested elsewhere."""
    monkeypatch.setattr(scan, "stretch", lambda chunks, each, state, budget: budget)


def given(learnt: str = LEARNT) -> tuple[list[Tensor], list[list[Tensor]]]:
    """What is differentiated, and the inputs of every chunk."""
    random = torch.Generator().manual_seed(0)
    shapes = {"w": (2, 6, 6), "m": (2, 6, 6), "x": (CHUNKS, 2, 4, 6), "r": (CHUNKS, 2, 4, 6), "p": (6, 6)}
    made = {n: 0.4 * torch.randn(shape, dtype=torch.float64, generator=random) for n, shape in shapes.items()}
    w, m, x, r, p = (t.requires_grad_(n in learnt) for n, t in made.items())
    rows = [[w, m, *own, p] for own in zip(x.unbind(), r.unbind(), strict=True)]
    return [t for t in made.values() if t.requires_grad], rows


def body(function: Function, compiler: Compiler | None = None) -> Body:
    _, rows = given()
    graph = make_fx(lambda *xs: function(*xs))(*(x.detach() for x in rows[0]))
    return Body(graph, {0: 0, 1: 1}, compiler)


def last(found: list[list[Tensor]]) -> list[Tensor]:
    return [*found[-1][:2], *(x for results in found for x in results[2:])]


def one_by_one(function: Function, learnt: str = LEARNT) -> tuple[list[Tensor], list[Tensor]]:
    sources, rows = given(learnt)
    return sources, last(followed(rows, {0: 0, 1: 1}, lambda inputs: function(*inputs)))


def at_once(function: Function, budget: int, learnt: str = LEARNT) -> tuple[list[Tensor], list[Tensor]]:
    sources, rows = given(learnt)
    return sources, last(body(function).scan(rows, budget))


def loss_of(results: list[Tensor]) -> Tensor:
    return sum((x * (x.detach() + 0.3 * i).cos()).sum() for i, x in enumerate(results))  # type: ignore[return-value]


def slopes(sources: list[Tensor], results: list[Tensor], **options: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss_of(results), sources, allow_unused=True, materialize_grads=True, **options))


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("learnt", [LEARNT, "x", "wp", "r", "m"])
def test_results_and_gradients(function: Function, learnt: str, budget: int) -> None:
    (sources, found), (others, expected) = at_once(function, budget, learnt), one_by_one(function, learnt)
    same([x.detach() for x in found], [x.detach() for x in expected])
    assert all(x.requires_grad or not y.requires_grad for x, y in zip(found, expected, strict=True))
    if loss_of(expected).requires_grad:
        same(slopes(sources, found), slopes(others, expected))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_backward_pass_can_be_run_again(function: Function, budget: int) -> None:
    sources, found = at_once(function, budget)
    expected = slopes(*one_by_one(function))
    for _ in range(2):
        same(slopes(sources, found, retain_graph=True), expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_steps_one_after_the_other_in_machine_code(function: Function) -> None:
    """What chunks keep is written over by those of the next step, and nothing else is."""
    compiled, expected = body(function, compiler_of({})), one_by_one(function)
    found: list[list[Tensor]] = []
    for budget in (*BUDGETS, *BUDGETS):
        sources, rows = given()
        results = last(compiled.scan(rows, budget))
        twice = [slopes(sources, results, retain_graph=True) for _ in range(2)]
        found += [[x.detach() for x in results], *twice]
    for some in found[::3]:
        same(some, [x.detach() for x in expected[1]])
    wanted = slopes(*expected)
    for some in (*found[1::3], *found[2::3]):
        same(some, wanted)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_gradient_of_a_gradient(function: Function, budget: int) -> None:
    def twice(sources: list[Tensor], results: list[Tensor]) -> list[Tensor]:
        first = slopes(sources, results, create_graph=True)
        total = sum(((g + 1).sin().sum() for g in first), loss_of(results))
        return list(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))

    same(twice(*at_once(function, budget)), twice(*one_by_one(function)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_gradients_and_under_transforms(function: Function) -> None:
    _, rows = given("")
    expected = last(followed(rows, {0: 0, 1: 1}, lambda inputs: function(*inputs)))
    same(last(body(function).scan(rows, 0)), expected)
    run = body(function)

    def loss(w: Tensor, call: Callable[[Any], list[list[Tensor]]]) -> Tensor:
        return loss_of(last(call([[w, *row[1:]] for row in rows])))

    found, wanted = (
        torch.func.grad(loss)(rows[0][0], call)
        for call in (
            lambda rows: run.scan(rows, 0),
            lambda rows: followed(rows, {0: 0, 1: 1}, lambda xs: function(*xs)),
        )
    )
    same([found], [wanted])


def test_part_of_the_results_is_enough() -> None:
    for pick in (slice(0, 1), slice(3, 4), slice(2, None, 2)):
        (sources, found), (others, expected) = at_once(held, 0), one_by_one(held)
        same(slopes(sources, found[pick]), slopes(others, expected[pick]))


def test_what_is_kept_is_let_go_while_gradients_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not until all of them are: at the first chunk nothing of the others is left."""
    alive: list[int] = []
    kept: list[weakref.ref[Tensor]] = []
    forward, backward = Scan.forward, Scan.backward

    def noted(self: Scan, *args: Any) -> Any:
        results, trail = forward(self, *args)
        kept.append(weakref.ref(trail[0][-1]))
        return results, trail

    def counted(self: Scan, *args: Any) -> Any:
        alive.append(sum(x() is not None for x in kept))
        return backward(self, *args)

    monkeypatch.setattr(Scan, "forward", noted)
    monkeypatch.setattr(Scan, "backward", counted)
    sources, found = at_once(titans, 0)
    slopes(sources, found)
    assert alive == [*range(CHUNKS, 0, -1)]


def test_a_budget_keeps_states_and_one_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    forward = Scan.forward

    def noted(self: Scan, given: Any, chunk: int, state: Any) -> Any:
        computed.append(chunk)
        return forward(self, given, chunk, state)

    monkeypatch.setattr(Scan, "forward", noted)
    sources, found = at_once(titans, 2)
    slopes(sources, found)
    assert computed == [0, 1, 2, 3, 4, 2, 3, 0, 1], "stretches of two, of which the last is not computed again"


@pytest.mark.parametrize("budget", BUDGETS)
def test_within_a_checkpoint_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """What autograd's own hooks don't see would be kept all the same."""
    kept: list[weakref.ref[Tensor]] = []
    run, (sources, rows) = body(titans), given()
    run.scan(rows, budget)
    [adjoint] = run.adjoints
    forward = adjoint.forward

    def noted(*inputs: Tensor) -> Any:
        found = forward(*inputs)
        kept.append(weakref.ref(found[-1]))
        return found

    monkeypatch.setattr(adjoint, "forward", noted)
    found = checkpoint(lambda: last(run.scan(rows, budget)), use_reentrant=False)
    assert len(kept) == CHUNKS and not any(x() is not None for x in kept)
    same(slopes(sources, found), slopes(*one_by_one(titans)))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_nobody_differentiates_is_freed(function: Function, budget: int) -> None:
    gc.disable()
    try:
        _, found = at_once(function, budget)
        known = [weakref.ref(x) for x in found]
        del found
        assert all(x() is None for x in known)
    finally:
        gc.enable()


def test_without_a_gradient_one_state_is_there_at_a_time() -> None:
    states: list[weakref.ref[Tensor]] = []

    def call(inputs: list[Tensor]) -> list[Tensor]:
        assert sum(x() is not None for x in states) <= 2
        results = titans(*inputs)
        states.extend(weakref.ref(x) for x in results[:2])
        return results

    _, rows = given("")
    followed(rows, {0: 0, 1: 1}, call)
