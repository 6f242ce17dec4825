"""Bodies whose states are stacked give what they gave, and so do their gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.stacking import Stacked, stacked
from nldsl.compiler.bodies.tidy import tidied
from nldsl.compiler.steps import Steps
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import gelu

import nldsl

aten = torch.ops.aten
Function = Callable[..., list[Tensor]]
MLPS = {i: i for i in range(4)}  # the states of `mlps` are its first results


def step(v: Tensor, w: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One memory [2, 6, 8] and [2, 8, 6], read at rows [2, 3, 6]."""
    h = gelu(rows @ v)
    y = h @ w
    return 0.9 * v + 0.1 * rows.mT @ h, 0.9 * w + 0.1 * h.mT @ y, y


def mlps(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """Two memories, read at the same rows."""
    (v, w, y), (s, t, r) = step(a, b, x), step(c, d, x)
    return [v, w, s, t, y * r, z + 1]


def apart(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """Each has its own rows, and one is read twice."""
    (v, w, y), (s, t, r) = step(a, b, x), step(c, d, z)
    return [v, w, s, t, y * r, gelu(z @ a)]


def after_another(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """The second is read at what the first gives."""
    v, w, y = step(a, b, x)
    s, t, r = step(c, d, y)
    return [v, w, s, t, y * r, z + 1]


def crossed(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """The second matrices stand in the other order: b belongs to c."""
    (v, w, y), (s, t, r) = step(a, d, x), step(c, b, x)
    return [v, t, s, w, y - r, z + 1]


def used_elsewhere(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """What is handed on is looked at once more, and a lane of it alone."""
    (v, w, y), (s, t, r) = step(a, b, x), step(c, d, x)
    return [v, w, s, t, (v * s).sum() + (w.sin() * t).sum(), (z @ v) @ w + y, r, w]


def partly(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, z: Tensor) -> list[Tensor]:
    """Their answers are treated differently, then as one again."""
    (v, w, y), (s, t, r) = step(a, b, x), step(c, d, x)
    return [v - (x.mT @ gelu(y.sin() @ w.mT)), w, s - (x.mT @ gelu(r.cos() @ t.mT)), t, y, r]


FUNCTIONS = [mlps, apart, after_another, crossed, used_elsewhere, partly]


def given(seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = [(2, 6, 8), (2, 8, 6), (2, 6, 8), (2, 8, 6), (2, 3, 6), (2, 3, 6)]
    return [torch.randn(s, dtype=torch.float64, generator=random) for s in shapes]


def graph_of(function: Function, inputs: Sequence[Tensor]) -> fx.GraphModule:
    graph = make_fx(function)(*inputs)
    tidied(graph.graph)
    return graph


def stack_of(function: Function, handed: dict[int, int]) -> Stacked | None:
    return stacked(graph_of(function, given()), handed, "cpu")


def products(graph: fx.GraphModule) -> int:
    return len(graph.graph.find_nodes(op="call_function", target=aten.bmm.default))


def learnt(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    loss = torch.stack([(x * x.detach().cos()).sum() for x in results if x.requires_grad]).sum()
    return list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))


def agree(body: fx.GraphModule, found: Stacked, inputs: Sequence[Tensor]) -> None:
    leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
    wanted = [x for x in leaves if x.requires_grad]
    expected = body.forward(*leaves)
    slopes = learnt(expected, wanted)
    ways: list[Function] = [found.graph.forward, lambda *xs: Body(found.graph, found.handed, None)(xs, False)]
    for run in ways:
        results = found.unpacked(run(*found.packed(leaves)))
        for a, b in zip([*results, *learnt(results, wanted)], [*expected, *slopes], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_and_gradients_are_the_same(function: Function) -> None:
    body = graph_of(function, given())
    found = stacked(body, MLPS, "cpu")
    assert found is not None
    agree(body, found, given(1))


def test_two_memories_are_one_step() -> None:
    found = stack_of(mlps, MLPS)
    assert found is not None
    assert found.inputs == [(0, 2), (1, 3), (4,), (5,)]
    assert found.results == [(0, 2), (1, 3), (4,), (5,)]
    assert found.handed == {0: 0, 1: 1}
    assert 2 * products(found.graph) == products(graph_of(mlps, given()))


def test_stacks_go_from_chunk_to_chunk() -> None:
    found, inputs = stack_of(apart, MLPS), given(2)
    assert found is not None
    now = found.packed(inputs)
    for _ in range(3):
        inputs[:4] = apart(*inputs)[:4]
        results = found.graph.forward(*now)
        now = [results[found.handed[i]] if i in found.handed else x for i, x in enumerate(now)]
    for a, b in zip(found.packed(inputs), now, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert a.stride() == b.stride()


def test_lanes_keep_together_in_whatever_order_they_stand() -> None:
    found = stack_of(crossed, MLPS)
    assert found is not None
    assert found.inputs[:2] in ([(0, 2), (3, 1)], [(2, 0), (1, 3)])


def test_lanes_do_not_need_one_another() -> None:
    """What a memory reads of another is read before; they only learn together."""
    found, alone, whole = stack_of(after_another, MLPS), graph_of(after_another, given()), stack_of(mlps, MLPS)
    assert found is not None and whole is not None
    assert products(whole.graph) < products(found.graph) < products(alone)


def test_states_that_need_one_another_are_not_stacked() -> None:
    def chain(a: Tensor, b: Tensor, x: Tensor) -> list[Tensor]:
        y = gelu(x @ a)
        return [a + x.mT @ y, b + y.mT @ gelu(y @ b)]

    inputs = [torch.randn(2, 6, 6), torch.randn(2, 6, 6), torch.randn(2, 3, 6)]
    assert stacked(graph_of(chain, inputs), {0: 0, 1: 1}, "cpu") is None


def test_states_that_are_handed_on_crosswise_are_not_stacked() -> None:
    assert stack_of(lambda a, b, c, d, x, z: [a * 2, c * 2, b.mT * 3 + a], {0: 0, 2: 2}) is None


@pytest.mark.parametrize("handed", [{}, {0: 0}, {0: 0, 1: 1}])
def test_nothing_is_alike(handed: dict[int, int]) -> None:
    assert stack_of(mlps, handed) is None


def test_what_writes_is_left_alone() -> None:
    def writing(*given: Tensor) -> list[Tensor]:
        given[4].mul_(2)
        return mlps(*given)

    assert stack_of(writing, MLPS) is None


def test_large_operands_are_not_copied() -> None:
    """Rows that are not packed are stacked while they are small."""

    def sums(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
        return [a + (a.exp() * x).sum(1, True), b + (b.exp() * y).sum(1, True), x * 2]

    for columns, count in ((1 << 8, 1), (1 << 12, 2)):
        inputs = [torch.randn(16, n) for n in (1, 1, columns, columns)]
        found = stacked(graph_of(sums, inputs), {0: 0, 1: 1}, "cpu")
        assert found is not None
        assert len(found.graph.graph.find_nodes(op="call_function", target=aten.sum.dim_IntList)) == count


def test_large_states_are_stacked_where_calls_are_what_costs() -> None:
    inputs = [torch.randn(2, 1 << 15) for _ in range(2)]
    body = graph_of(lambda a, b: [a.sin() + a.exp(), b.sin() + b.exp()], inputs)
    assert stacked(body, {0: 0, 1: 1}, "cpu") is None
    assert stacked(body, {0: 0, 1: 1}, "meta") is not None


def test_memories_of_hope_are_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """All five in their first two matrices, and the two that give numbers in their third."""
    caught: list[tuple[fx.GraphModule, dict[int, int], list[Tensor]]] = []
    called = Steps.called

    def catching(self: Steps, graph: fx.GraphModule, handed: dict[int, int], *more: Any) -> Callable[..., list[Tensor]]:
        run = called(self, copy.deepcopy(graph), handed, *more)

        def once(inputs: list[Tensor], stretched: bool) -> list[Tensor]:
            caught.append((graph, handed, [x.detach() for x in inputs]))
            return run(inputs, stretched)

        return once

    monkeypatch.setattr(Steps, "called", catching)
    torch.manual_seed(0)
    block = nldsl.compile("std.hope:SelfModifyingTitans", dim=8, heads=2, chunk=4).double()
    block(torch.randn(2, 48, 8, dtype=torch.float64))
    body, handed, inputs = max(caught, key=lambda c: len(c[0].graph.nodes))
    found = stacked(body, handed, "cpu")
    assert found is not None
    assert sorted(len(places) for places in found.inputs if len(places) > 1) == [2, 2, 5, 5, 5, 5]
    assert 3 * products(found.graph) < products(body)
    agree(body, found, inputs)
