"""Tidied graphs compute the same with less: nothing twice, nothing for nothing, one product per matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nldsl.compiler.bodies.joining import joined
from nldsl.compiler.bodies.rewrites import rewritten
from nldsl.compiler.bodies.tidy import tidied
from nldsl.compiler.bodies.tracing import traced
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def graph_of(function: Callable[..., Tensor], *given: Tensor) -> fx.GraphModule:
    return make_fx(function)(*given)


def count(graph: fx.GraphModule, target: object) -> int:
    return sum(node.target is target for node in graph.graph.nodes)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def test_what_does_nothing_is_left_out() -> None:
    def function(x: Tensor) -> Tensor:
        y = x.expand(2, 3).view(2, 3).transpose(0, 1).transpose(1, 0)
        return y.sin() + torch.zeros(2, 3, dtype=x.dtype)

    x = draw(2, 3)
    graph = graph_of(function, x)
    tidied(graph.graph)
    graph.recompile()
    assert [n.target for n in graph.graph.nodes if n.op == "call_function"] == [aten.sin.default]
    assert torch.equal(graph(x), function(x))


def test_a_zero_that_makes_a_tensor_larger_stays() -> None:
    def function(x: Tensor) -> Tensor:
        return x + torch.zeros(4, 3, dtype=x.dtype)

    graph = graph_of(function, draw(3))
    tidied(graph.graph)
    assert count(graph, aten.add.Tensor) == 1


def test_what_is_computed_twice_is_computed_once() -> None:
    def function(x: Tensor) -> Tensor:
        return x.sin() * x.sin() + x.sin(), x.sum(0) - x.sum(1)  # type: ignore[return-value]

    x = draw(3, 3)
    graph = graph_of(function, x)
    tidied(graph.graph)
    graph.recompile()
    assert count(graph, aten.sin.default) == 1
    assert count(graph, aten.sum.dim_IntList) == 2, "the axes differ"
    assert all(torch.equal(a, b) for a, b in zip(graph(x), function(x), strict=True))


def test_random_numbers_stay_different() -> None:
    graph = graph_of(lambda x: torch.rand_like(x) - torch.rand_like(x), draw(3))
    tidied(graph.graph)
    assert count(graph, aten.rand_like.default) == 2


def test_a_graph_that_writes_is_left_alone() -> None:
    def function(x: Tensor) -> Tensor:
        a, b = x.sin(), x.sin()
        a.add_(1)
        return a - b

    x = draw(3)
    graph = graph_of(function, x)
    tidied(graph.graph)
    graph.recompile()
    assert torch.equal(graph(x), torch.ones_like(x))


def chain(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Two reads that don't need each other, and one that needs both."""
    a, b = torch.bmm(x, w), torch.bmm(y, w)
    return torch.bmm(a[:, :2] + b.tanh(), w)


@pytest.mark.parametrize("rows", [2, 5])
def test_products_with_one_matrix_are_joined(rows: int) -> None:
    x, y, w = draw(3, rows, 4), draw(3, 2, 4), draw(3, 4, 4)
    graph = graph_of(chain, x, y, w)
    joined(graph.graph)
    graph.graph.lint()
    graph.recompile()
    assert count(graph, aten.bmm.default) == 2
    given = [t.requires_grad_() for t in (x, y, w)]
    found, expected = graph(*given), chain(*given)
    assert torch.allclose(found, expected, rtol=1e-14, atol=1e-14)
    for a, b in zip(
        torch.autograd.grad(found.sin().sum(), given), torch.autograd.grad(expected.sin().sum(), given), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_a_product_read_before_the_other_can_be_made_is_joined_in_order() -> None:
    """The first is used by what stands before the second."""

    def function(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        a = torch.bmm(x, w).sin()
        b = torch.bmm(y.cos(), w)
        return a * b

    given = draw(2, 3, 4), draw(2, 3, 4), draw(2, 4, 4)
    graph = graph_of(function, *given)
    joined(graph.graph)
    graph.graph.lint()
    graph.recompile()
    assert count(graph, aten.bmm.default) == 1
    assert torch.allclose(graph(*given), function(*given), rtol=1e-14, atol=1e-14)


def test_parts_of_a_joined_product_are_copied_where_they_are_seen_in_one_piece() -> None:
    """A view of all rows, whatever their batch, needs them side by side."""

    def function(a: Tensor, b: Tensor, matrix: Tensor, last: Tensor) -> Tensor:
        one, other = torch.bmm(a, matrix), torch.bmm(b, matrix)
        return one.view(2, 6, 5).view(12, 5) @ last + (other.view(8, 5) @ last).sum()

    given = draw(4, 3, 2), draw(4, 2, 2), draw(4, 2, 5), draw(5, 3)
    graph = graph_of(function, *given)
    rewritten(graph)
    graph.recompile()
    assert count(graph, aten.bmm.default) == 1
    torch.testing.assert_close(graph(*given), function(*given))


def bias(x: Tensor, w: Tensor, row: Tensor) -> Tensor:
    """x w + 1 row, as a network of linear maps has it."""
    ones = torch.ones(1, 1).expand(4, 3, 1)
    return torch.bmm(x, w) + torch.bmm(ones, row)


def bias_gradient(x: Tensor, w: Tensor, row: Tensor) -> Tensor:
    ones = torch.ones(1, 1).expand(4, 1, 3)
    return row + torch.bmm(ones, torch.bmm(x, w))


def shared(x: Tensor, w: Tensor, row: Tensor) -> Tensor:
    """A product with one number for the whole batch."""
    return row + torch.bmm(x[:1, :1, :1].expand(4, 1, 2), w)


def outer(x: Tensor, w: Tensor, row: Tensor) -> Tensor:
    return torch.bmm(x[..., :1], row) + 1


def perturbed(x: Tensor, w: Tensor, row: Tensor) -> Tensor:
    """What `torch.func` makes of a gradient in a row that is added everywhere."""
    return torch.bmm(x, w) * (x.new_zeros(4, 3, 5) + row)


@pytest.mark.parametrize(
    ("function", "products", "sums", "copies"),
    [(bias, 1, 0, 0), (bias_gradient, 1, 1, 0), (shared, 1, 0, 1), (outer, 0, 0, 0), (perturbed, 1, 0, 0)],
)
def test_thin_products_are_no_products(function: Callable[..., Tensor], products: int, sums: int, copies: int) -> None:
    given = tuple(x.float() for x in (draw(4, 3, 2), draw(4, 2, 5), draw(4, 1, 5)))
    graph = graph_of(function, *given)
    rewritten(graph)
    graph.graph.lint()
    graph.recompile()
    assert count(graph, aten.bmm.default) + count(graph, aten.baddbmm.default) == products
    assert (count(graph, aten.sum.dim_IntList), count(graph, aten.clone.default)) == (sums, copies)
    assert not count(graph, aten.new_zeros.default)
    torch.testing.assert_close(graph(*given), function(*given))


def test_what_is_computed_from_nothing_is_known_where_it_is_one_number() -> None:
    def function(x: Tensor) -> Tensor:
        decays = torch.full((1, 4, 1), 1.0, dtype=x.dtype)
        steps = torch.arange(4, dtype=x.dtype).reshape(1, 4, 1)
        return x * decays.cumprod(1) + steps.exp()

    x = draw(2, 4, 3)
    graph = traced(lambda x: [function(x)], [x])
    assert not count(graph, aten.cumprod.default)
    assert not count(graph, aten.mul.Tensor)
    assert count(graph, aten.exp.default) == 1
    (found,) = graph(x)
    assert torch.equal(found, function(x))
