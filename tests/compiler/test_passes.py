"""What inductor is told to do to its graphs changes no number."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nldsl.compiler.bodies.passes import OWN, summed
from nldsl.compiler.bodies.tracing import recorded
from torch import Tensor

aten = torch.ops.aten
Function = Callable[[Tensor, Tensor, Tensor], list[Tensor]]


def own(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm(2 * total, a, b), total]


def twice(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm(torch.baddbmm(total + 1, a, b), b, a)]


def given(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm(total, a, b)]


def read_again(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    two = 2 * total
    return [torch.baddbmm(two, a, b), two]


def spread(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm(2 * total[:, :1], a, b)]


def seen(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm((2 * total).mT, a, b)]


def of_itself(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    two = 2 * total
    return [torch.baddbmm(two, two, b)]


def weighed(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [torch.baddbmm(2 * total, a, b, beta=3)]


WRITTEN = {own: 1, twice: 2}


@pytest.mark.parametrize("function", [own, twice, given, read_again, spread, seen, weighed, of_itself])
def test_sums_are_written_over_where_nothing_else_reads_them(function: Function) -> None:
    inputs = [torch.randn(3, 4, 4, dtype=torch.float64) for _ in range(3)]
    wanted = function(*inputs)
    graph = recorded(function, inputs)
    summed(graph.graph)
    graph.recompile()
    assert [n.target for n in graph.graph.nodes].count(aten.baddbmm_.default) == WRITTEN.get(function, 0)
    before = [x.clone() for x in inputs]
    for found, x in zip(graph(*inputs), wanted, strict=True):
        torch.testing.assert_close(found, x, rtol=1e-14, atol=1e-14)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_what_is_written_over_is_no_view() -> None:
    assert not any(target.is_view for target in OWN)
