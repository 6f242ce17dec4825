"""The kernel for triangular systems in machine code: the numbers that torch gives, in every layout, size and kind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from nldsl.compiler.bodies import native, solve
from nldsl.compiler.bodies.kernels import Kernels
from nldsl.compiler.bodies.standalone import Standalone
from nldsl.compiler.bodies.tracing import recorded
from nldsl.compiler.lowerings import system
from torch import Tensor
from torch._inductor import config

from .native import EXACT, LAYOUTS, NEEDED, Noted, drawn, near

pytestmark = NEEDED
OP = torch.ops.nldsl.solve.default
KINDS = [*product((False, True), (False, True))]  # upper, unitriangular
TYPES = pytest.mark.parametrize("dtype", EXACT, ids=str)


def solved(a: Tensor, b: Tensor, upper: bool, unit: bool, left: bool = True) -> Tensor:
    return torch.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unit)


def triangular(*shape: int, upper: bool, unit: bool, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """A matrix that is easy to solve for; where no number of it may be used, there is none."""
    a = drawn(*shape, seed=seed, dtype=dtype) / (2 * shape[-1] ** 0.5) + 2 * torch.eye(shape[-1], dtype=dtype)
    unused = torch.ones(*shape, dtype=torch.bool)
    unused = unused.tril(0 if unit else -1) if upper else unused.triu(0 if unit else 1)
    return a.masked_fill(unused, torch.nan)


def called(a: Tensor, b: Tensor, upper: bool, unit: bool) -> Tensor:
    """The kernel itself. It writes what is asked for, and nothing around it."""
    c, n, m = b.shape
    around = a.new_full((c * n * m + 32,), torch.inf)
    out = around[16:-16].view(c, n, m)
    solve.kernel(a.dtype)(a, b, out, 0, *a.stride(), 0, *b.stride(), c, n, m, int(upper), int(unit))
    assert around[:16].isinf().all() and around[-16:].isinf().all()
    return out


@TYPES
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 7), (2, 17, 70), (8, 16, 16), (2, 33, 1), (4, 64, 64)], ids=str)
def test_systems_of_every_layout_and_kind(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    c, n, m = size
    for (upper, unit), lay_a, lay_b in product(KINDS, LAYOUTS, LAYOUTS):
        a = lay_a(triangular(c, n, n, upper=upper, unit=unit, dtype=dtype))
        b = lay_b(drawn(c, n, m, seed=1, dtype=dtype))
        near(called(a, b, upper, unit), solved(a.nan_to_num().double(), b.double(), upper, unit))


def test_columns_are_shared_out_among_any_number_of_threads() -> None:
    a, b = triangular(1, 100, 100, upper=True, unit=False), drawn(1, 100, 90, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            near(called(a, b, True, False), solved(a.nan_to_num(), b, True, False))
    finally:
        torch.set_num_threads(before)


def several(a: Tensor, b: Tensor) -> list[Tensor]:
    """Systems [2, 4, n, n]: of the identity, of the transposed, of parts, on the right, of one matrix for many."""
    n = a.shape[-1]
    eye = torch.eye(n, dtype=a.dtype)
    first = solved(eye - a.tril(-1), eye.expand_as(a), False, True)
    second = solved(first.mT, b.sin(), True, True)
    third = solved(a[:, 1:, : n - 1, : n - 1], second[:, 1:, 1:], False, False)
    fourth = solved(a.mT[0, 0], b, True, False, left=False)
    fifth = solved(a[:1], b[..., :5] + third[:, :1, :1, :5], False, False)
    return [first @ second, third, fourth, fifth, solved(a.transpose(0, 1), fifth.transpose(0, 1), False, True)]


@TYPES
@pytest.mark.parametrize("lay", LAYOUTS)
def test_inductor_computes_the_same(lay: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    """What it returns lies as torch has it, too."""
    a = lay(triangular(2, 4, 16, 16, upper=False, unit=False, dtype=dtype).tril())
    inputs = [a, lay(drawn(2, 4, 16, 16, seed=1, dtype=dtype))]
    chosen = Noted(OP)
    run = Standalone(recorded(several, inputs), {"post_grad_custom_post_pass": chosen})
    for found, plain, wanted in zip(
        run(*inputs), several(*inputs), several(*[x.double() for x in inputs]), strict=True
    ):
        near(found, wanted)
        assert found.stride() == plain.stride()
    assert chosen.count == 6


def test_what_counts_on_how_a_solution_lies_is_not_misled() -> None:
    """torch's lie column by column."""

    def body(a: Tensor, b: Tensor) -> Tensor:
        return solved(a, b, False, True).as_strided((3, 5), (10, 1), 2) + 1

    inputs = [triangular(3, 5, 5, upper=False, unit=True).tril(-1), drawn(3, 5, 4, dtype=torch.float64)]
    chosen = Noted(OP)
    near(Standalone(recorded(body, inputs), {"post_grad_custom_post_pass": chosen})(*inputs), body(*inputs))
    assert chosen.count == 1


def test_sizes_may_change() -> None:
    """One graph for systems of any number, rows and columns."""
    torch._dynamo.reset()
    chosen = Noted(OP)
    run = torch.compile(
        lambda a, b: solved(a.mT, b, True, False).cos(), dynamic=True, options={"post_grad_custom_post_pass": chosen}
    )
    for c, n, m in ((3, 16, 20), (4, 24, 17), (2, 9, 33)):
        a, b = triangular(c, n, n, upper=False, unit=False).tril(), drawn(c, n, m, dtype=torch.float64)
        near(run(a, b), solved(a.mT, b, True, False).cos())
    assert chosen.count == 1


@pytest.mark.parametrize(("c", "n", "m"), [(0, 4, 4), (2, 0, 3), (2, 3, 0), (1, 1, 1)])
def test_empty_ones_and_single_numbers(c: int, n: int, m: int) -> None:
    a, b = triangular(c, n, n, upper=False, unit=False).tril(), drawn(c, n, m, dtype=torch.float64)
    run = Standalone(
        recorded(lambda a, b: solved(a, b, False, False), [a, b]), {"post_grad_custom_post_pass": Kernels()}
    )
    near(run(a, b), solved(a, b, False, False))


@TYPES
@pytest.mark.parametrize("upper", [False, True])
def test_what_has_no_solution_is_not_finite_where_torch_says_so(upper: bool, dtype: torch.dtype) -> None:
    a, b = triangular(2, 20, 20, upper=upper, unit=False, dtype=dtype), drawn(2, 20, 9, seed=1, dtype=dtype)
    a[0, 7, 7] = 0
    found, wanted = called(a, b, upper, False), solved(a.nan_to_num(), b, upper, False)
    assert found.isfinite().equal(wanted.isfinite()) and not found.isfinite().all()
    near(found[1], wanted[1].double())
    assert found[0, 7].equal(wanted[0, 7])


@TYPES
def test_answers_and_their_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    """What a chunk solves. Its backward pass has a system of its own."""
    torch._dynamo.reset()
    chosen = Noted(OP)

    def answers(strict: Tensor, base: Tensor) -> Tensor:
        return system.inverse(strict.tril(-1)) @ base

    run = torch.compile(answers, dynamic=False, options={"post_grad_custom_post_pass": chosen})
    given = [drawn(2, 4, 16, 16, dtype=dtype) / 8, drawn(2, 4, 16, 8, seed=1, dtype=dtype)]
    factors = drawn(2, 4, 16, 8, seed=2)

    def seen(of: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [x.to(dtype, copy=True).requires_grad_() for x in given]
        y = of(*inputs)
        return [y.detach(), *torch.autograd.grad((y * factors).sum(), inputs)]

    for found, wanted in zip(seen(run, dtype), seen(answers, torch.float64), strict=True):
        near(found, wanted)
    assert chosen.count == 2


def test_what_is_compiled_is_kept_with_how_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernels, and where nothing that is written in Python can be called, systems are torch's."""
    inputs = [triangular(2, 3, 3, upper=False, unit=True).tril(-1), drawn(2, 3, 3, dtype=torch.float64)]

    def count() -> int:
        graph = recorded(lambda a, b: solved(a, b, False, True) @ a, inputs).graph
        Kernels()(graph)
        return len([node for node in graph.nodes if str(node.target).startswith("nldsl.")])

    with config.patch(cpp_wrapper=True):
        assert count() == 0
    assert count() == 1
    before = Kernels().uuid()
    monkeypatch.setattr(native, "AT_HAND", False)
    assert count() == 0 and Kernels().uuid() != before


def test_complex_numbers_are_left_to_torch() -> None:
    a, b = (torch.complex(x, x) for x in (drawn(2, 3, 3).tril() + 2 * torch.eye(3), drawn(2, 3, 3, seed=1)))
    graph = recorded(lambda a, b: solved(a, b, False, False), [a, b]).graph
    Kernels()(graph)
    assert not graph.find_nodes(op="call_function", target=OP)


def test_what_counts_is_the_operator_that_torch_knows() -> None:
    a, b = triangular(2, 9, 9, upper=False, unit=True).tril(-1), drawn(2, 9, 4, dtype=torch.float64)
    near(OP(a, b, False, True, True), solved(a, b, False, True))
    torch.library.opcheck(OP, (a, b, False, True, True), test_utils=("test_schema", "test_faketensor"))
