"""Results of a body that are one number everywhere are made once, and are nobody else's; inputs are handed on as they
are."""

from __future__ import annotations

import torch
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.tracing import traced
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import nldsl


def restarting(w: Tensor, s: Tensor, count: Tensor, x: Tensor) -> list[Tensor]:
    """A weight, and a momentum that begins anew with every chunk."""
    fresh = torch.zeros_like(s)
    return [w + x * (fresh + 1), fresh, torch.zeros_like(count), torch.ones(2, 1).expand(2, 3)]


def drawn() -> list[Tensor]:
    return [
        torch.randn(2, 3, requires_grad=True),
        torch.randn(2, 3),
        torch.ones(2, dtype=torch.int64),
        torch.ones(2, 3),
    ]


def test_they_are_handed_on_and_not_made_again() -> None:
    inputs = drawn()
    body = Body(traced(restarting, inputs), {0: 0, 1: 1, 2: 2}, None)
    first = body(inputs, False)
    second = body([*first[:3], inputs[3]], False)
    for found in (first, second):
        assert torch.equal(found[1], torch.zeros(2, 3)) and torch.equal(found[2], torch.zeros(2, dtype=torch.int64))
        assert torch.equal(found[3], torch.ones(2, 3))
    torch.testing.assert_close(second[0], inputs[0] + 2 * inputs[3])
    assert first[1] is second[1] and first[2] is second[2]
    assert torch.autograd.grad(second[0].sum(), inputs[0])[0].eq(1).all()


def test_a_state_that_was_changed_is_not_taken_for_what_was_made() -> None:
    inputs = drawn()
    body = Body(traced(restarting, inputs), {0: 0, 1: 1, 2: 2}, None)
    first = body(inputs, False)
    first[1].fill_(5)
    again = body([*(x.detach() for x in first[:3]), inputs[3]], False)
    assert torch.equal(again[1], torch.zeros(2, 3))


def test_transforms_leave_nothing_behind() -> None:
    inputs = drawn()
    body = Body(traced(restarting, inputs), {0: 0, 1: 1, 2: 2}, None)
    slope = torch.func.grad(lambda w: body([w, *inputs[1:]], False)[0].sum())(inputs[0].detach())
    assert torch.equal(slope, torch.ones(2, 3)) and not body.fixed.made
    assert torch.equal(body(inputs, False)[1], torch.zeros(2, 3))


def test_the_state_of_a_call_is_the_callers() -> None:
    """Even before the backward pass, and for the calls that go on from it."""
    module = nldsl.compile("std.ttt:TTTLinear", dim=8, heads=2, chunk=4, dtype=torch.float64)
    module.runner.steps.patience = 0
    x = torch.randn(1, 16, 8, dtype=torch.float64, requires_grad=True)
    y, state = module(x)
    assert any(body.fixed for body in module.runner.steps.bodies.values())
    kept = tree_map(torch.clone, state)
    y.sum().backward(retain_graph=True)
    moments = [t for t in tree_leaves(state) if t.is_floating_point() and not t.requires_grad and not t.any()]
    assert moments
    for t in moments:
        t.fill_(3)
    again, after = module(x, kept)
    y.sum().backward()
    expected, wanted = nldsl.compile("std.ttt:TTTLinear", dim=8, heads=2, chunk=4, dtype=torch.float64)(x, kept)
    torch.testing.assert_close(again, expected)
    torch.testing.assert_close(tree_leaves(after), tree_leaves(wanted))


def test_another_call_gets_its_own() -> None:
    body = Body(traced(restarting, drawn()), {0: 0, 1: 1, 2: 2}, None)
    one, two = body(drawn(), False), body(drawn(), False)
    one[1].fill_(5)
    assert torch.equal(two[1], torch.zeros(2, 3)) and torch.equal(body(drawn(), False)[1], torch.zeros(2, 3))


def holding(w: Tensor, held: Tensor, spare: Tensor, x: Tensor) -> list[Tensor]:
    """A weight, what it was at the chunk's beginning, and an input that nothing needs."""
    return [w * 2 + x, w, x]


def test_inputs_are_handed_on_as_they_are() -> None:
    w, held, spare, x = inputs = [torch.randn(2, 3, requires_grad=True) for _ in range(4)]
    body = Body(traced(holding, inputs), {0: 0, 1: 1}, None)
    first = body(inputs, False)
    second = body([*first[:2], spare, x], False)
    assert first[1] is w and first[2] is x and second[1] is first[0]
    assert [len(a.wanted) for a in body.adjoints] == [2]
    given = torch.autograd.grad(second[0].sum() + 5 * second[1].sum(), (w, x, held, spare), allow_unused=True)
    assert [g if g is None else g.unique().item() for g in given] == [14, 8, None, None]


def test_what_is_handed_on_is_differentiated_at_once_where_the_next_chunk_needs_it() -> None:
    """At the first chunk only the weight is, at the second what was held of it too: one adjoint does for both."""

    def reading(w: Tensor, held: Tensor, x: Tensor) -> list[Tensor]:
        return [w * 2 + x, w, (x * held).sum()]

    w, x = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    body = Body(traced(reading, [w, w, x]), {0: 0, 1: 1}, None)
    first = body([w, torch.randn(2, 3), x], False)
    second = body([*first[:2], x], False)
    assert [a.wanted for a in body.adjoints] == [(True, True, False)] and not body.refused
    torch.testing.assert_close(torch.autograd.grad(second[2], w)[0], x)


def test_a_body_that_only_hands_on_is_left_as_it_is() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    body = Body(traced(lambda x: [x, torch.zeros_like(x)], [x]), {}, None)
    same, zeros = body([x], False)
    assert torch.equal(same, x) and torch.equal(zeros, torch.zeros(2, 3))
    assert torch.autograd.grad(same.sum(), x)[0].eq(1).all()
