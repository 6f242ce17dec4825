"""A backward pass keeps what is costly to make again, and makes the rest of that: the same numbers."""

from __future__ import annotations

from collections import Counter

import torch
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.nodes import results_of
from nldsl.compiler.bodies.tracing import traced
from torch import Tensor, fx

aten = torch.ops.aten


def chunk(w: Tensor, v: Tensor, x: Tensor) -> list[Tensor]:
    """A product through a curve, scaled: the scaled one is a product's factor in turn."""
    scaled = torch.nn.functional.gelu(x @ w) * torch.cat([x, x], -1)
    return [scaled @ v]


def given() -> list[Tensor]:
    shapes = ((2, 4, 8), (2, 8, 3), (2, 5, 4))
    return [
        torch.randn(s, generator=torch.Generator().manual_seed(i), dtype=torch.float64).requires_grad_()
        for i, s in enumerate(shapes)
    ]


def test_a_product_is_kept_and_what_curves_and_scales_it_is_not() -> None:
    inputs = given()
    body = Body(traced(chunk, inputs), {}, None)
    (found,) = body(inputs, False)
    wanted = torch.autograd.grad(chunk(*inputs)[0].square().sum(), inputs)
    for a, b in zip(torch.autograd.grad(found.square().sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    graph: fx.GraphModule = body.adjoints[0].forward.__self__  # type: ignore[attr-defined]
    kept = results_of(graph)[1:]
    assert Counter(n.target for n in kept) == {torch.bmm: 1}
