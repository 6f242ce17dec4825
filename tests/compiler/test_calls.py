"""Compiled bodies called without Python: the same numbers in the same places, and what is left to inductor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nldsl.compiler.bodies.calls import ALIGNED, Calls, arranged
from nldsl.compiler.bodies.kernels import Kernels
from nldsl.compiler.bodies.places import Life
from nldsl.compiler.bodies.standalone import Standalone
from nldsl.compiler.bodies.tracing import recorded
from torch import Tensor

from .native import NEEDED, across, drawn, near

LIVES = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 20), st.integers(0, 8)), max_size=25)


def standalone(body: Callable[..., Any], *inputs: Tensor, kept: int | None = None) -> Standalone:
    """As a body is handed on, after its first call."""
    graph = recorded(body, inputs)
    graph.meta["kept"] = kept
    made = Standalone(graph, {"size_asserts": False, "post_grad_custom_post_pass": Kernels()})
    made(*inputs)
    return made


def mixed(x: Tensor, y: Tensor) -> list[Tensor]:
    """Products and a system of both precisions, sums, views of what is a result and of what is not."""
    z = x @ y
    upper = z.double().triu() + 9 * torch.eye(8, dtype=torch.float64)
    solved = torch.linalg.solve_triangular(upper, y.double() @ x.double(), upper=True)
    return [
        z.mT,
        torch.baddbmm(x, z, y, beta=0.5, alpha=2.0),
        solved.float(),
        (z + 1).sum(-1),
        (z * 3)[:, 1:, ::2],
        z[1],
    ]


class TestCalls:
    pytestmark = NEEDED

    @pytest.mark.parametrize("lying", (Tensor.contiguous, across), ids=("contiguous", "across"))
    def test_the_same_numbers_in_the_same_places(self, lying: Callable[[Tensor], Tensor]) -> None:
        first = [lying(drawn(3, 8, 8, seed=i)) for i in range(2)]
        body, plain = standalone(mixed, *first), mixed(*first)
        assert isinstance(body._run, Calls)
        for seed in (2, 4):
            inputs = [lying(drawn(3, 8, 8, seed=seed + i)) for i in range(2)]
            before, found = [x.clone() for x in inputs], body(*inputs)
            body(*first)  # what an earlier call gave stays as it is
            for x, wanted, like in zip(found, mixed(*(x.double() for x in inputs)), plain, strict=True):
                near(x, wanted.double())
                assert (x.shape, x.dtype) == (like.shape, like.dtype)
            assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
            assert len({x.untyped_storage().data_ptr() for x in found}) == len({*map(id, found)}) - 1  # z, seen twice

    def test_nothing_between_is_allocated_by_itself(self) -> None:
        def chain(x: Tensor) -> list[Tensor]:
            for _ in range(6):
                x = x @ x / 8
            return [x]

        x = drawn(64, 64)
        body = standalone(chain, x)
        assert isinstance(body._run, Calls)
        assert 0 < body._run.bytes <= 3 * x.nbytes
        near(body(x)[0], chain(x.double())[0])

    def test_what_is_kept_lies_together_in_a_room(self) -> None:
        inputs = [drawn(3, 8, 8, seed=i) for i in range(2)]
        calls = standalone(mixed, *inputs, kept=2).calls
        assert calls is not None
        given = [inputs, [2 * x for x in inputs]]
        for _ in range(2):  # the second time in the rooms of the first
            rooms = [calls.room() for _ in given]
            found: list[Any] = [calls(*x, room=room) for x, room in zip(given, rooms, strict=True)]
            for x, results in zip(given, found, strict=True):
                for y, wanted in zip(results, mixed(*(z.double() for z in x)), strict=True):
                    near(y, wanted.double())
                storages = [y.untyped_storage().data_ptr() for y in results]
                assert len({*storages[2:5]}) == 1
                assert len({*storages}) == 3  # the last is a view of the first, which is none of what is kept
            calls.spared += rooms
        assert {id(calls.room()) for _ in given} == {*map(id, rooms)}

    def test_a_room_holds_numbers_of_all_types(self) -> None:
        def body(x: Tensor) -> list[Tensor]:
            return [x @ x, (x @ x).double() + 1, (x @ x).long(), x[0, :3] > 0]

        x = drawn(5, 5)
        calls = standalone(body, x, kept=1).calls
        assert calls is not None
        for found, wanted in zip(calls(x, room=calls.room()), body(x), strict=True):
            torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize(
        "body",
        (
            lambda x: [torch.sort(x, -1)[0] * 2],  # an operator that is no kernel
            lambda x: [x * 2, x],  # an input handed on
            lambda x: [x * 2, x.mT],
            lambda x: [x + torch.rand_like(x)],
        ),
        ids=("operator", "input", "view", "random"),
    )
    def test_what_is_left_to_inductor(self, body: Callable[[Tensor], Any]) -> None:
        x = drawn(4, 4)
        made = standalone(body, x)
        assert not isinstance(made._run, Calls)
        torch.manual_seed(0)
        found = made(x)
        torch.manual_seed(0)
        again = made(x)
        torch.testing.assert_close(found, again, rtol=0, atol=0)

    def test_many_arguments(self) -> None:
        inputs = [drawn(5, seed=i) for i in range(100)]
        body = standalone(lambda *x: [sum(a * a for a in x)], *inputs)
        assert isinstance(body._run, Calls)
        near(body(*inputs)[0], sum((a.double() ** 2 for a in inputs), torch.zeros(5, dtype=torch.float64)))


@given(LIVES)
def test_what_lives_at_once_lies_apart(drawn: list[tuple[int, int, int]]) -> None:
    made = sorted(((first, first + long, size) for size, first, long in drawn), key=lambda x: x[0])
    lives = {3 * i: Life(size, first, last) for i, (first, last, size) in enumerate(made)}
    offsets, size = arranged(lives)
    assert offsets.keys() == lives.keys()
    for i, life in lives.items():
        assert offsets[i] % ALIGNED == 0
        assert offsets[i] + life.bytes <= size
        for j, other in lives.items():
            if i < j and life.first <= other.first < life.last and other.bytes and life.bytes:
                ends = offsets[i] + life.bytes, offsets[j] + other.bytes
                assert ends[0] <= offsets[j] or ends[1] <= offsets[i]


def test_what_follows_takes_the_place_of_what_is_over() -> None:
    lives = {i: Life(128, i, i + 1) for i in range(50)}
    assert arranged(lives)[1] == 128
