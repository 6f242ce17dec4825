"""Results of a body that are one number everywhere are made once, and are nobody else's."""

from __future__ import annotations

import torch
from nldsl.compiler.bodies.adjoint import Body
from nldsl.compiler.bodies.tracing import traced
from torch import Tensor


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


def test_another_call_gets_its_own() -> None:
    body = Body(traced(restarting, drawn()), {0: 0, 1: 1, 2: 2}, None)
    one, two = body(drawn(), False), body(drawn(), False)
    one[1].fill_(5)
    assert torch.equal(two[1], torch.zeros(2, 3)) and torch.equal(body(drawn(), False)[1], torch.zeros(2, 3))
