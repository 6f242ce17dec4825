"""The kernel for products in machine code: the numbers that torch gives, in every layout, size and combination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from nldsl.compiler.bodies import gemm
from nldsl.compiler.bodies.standalone import Standalone
from nldsl.compiler.bodies.tracing import recorded
from nldsl.compiler.module import CompiledModule
from torch import Tensor

import nldsl

from .native import EXACT, LAYOUTS, NEEDED, Noted, across, drawn, near, strewn

pytestmark = NEEDED
OP = torch.ops.nldsl.gemm.default
TYPES = pytest.mark.parametrize("dtype", EXACT, ids=str)


def called(a: Tensor, b: Tensor, total: Tensor | None, beta: float, alpha: float) -> Tensor:
    """The kernel itself; what it does not write stays NaN."""
    out = a.new_full((*a.shape[:2], b.shape[2]), torch.nan)
    sums = (0, 0) if total is None else total.stride()[:2]
    lies = (0, *a.stride(), 0, *b.stride(), 0, *sums, *out.stride()[:2])
    factors = (0.0 if total is None else beta, alpha)
    gemm.kernel(a.dtype)(a, b, out if total is None else total, out, *lies, *a.shape, b.shape[2], *factors)
    return out


SIZES = [
    (1, 1, 1, 1),
    (3, 5, 7, 9),
    (2, 17, 300, 70),
    (8, 16, 64, 256),
    (1, 200, 129, 16),
    (2, 33, 16, 200),
    (5, 6, 128, 64),
]


@TYPES
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_of_every_layout(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    c, n, k, m = size
    shapes = ((c, n, k), (c, k, m), (c, n, m))
    for left, right, lay in product(LAYOUTS, LAYOUTS, LAYOUTS):
        if {right, lay} & {strewn} or lay is across:
            continue
        x, y, z = (drawn(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes))
        a, b, total = left(x), right(y), lay(z)
        if 1 not in b.stride()[1:]:
            continue
        wanted = a.double() @ b.double()
        near(called(a, b, None, 1, 1), wanted)
        near(called(a, b, total, 0.1, -0.3), 0.1 * total.double() - 0.3 * wanted)


@TYPES
def test_a_total_may_be_one_row_for_all(dtype: torch.dtype) -> None:
    a, b, row = drawn(2, 20, 16, dtype=dtype), drawn(2, 16, 40, seed=1, dtype=dtype), drawn(40, seed=2, dtype=dtype)
    near(called(a, b, row.expand(2, 20, 40), 1, 1), a.double() @ b.double() + row.double())


def several(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """Sums and products of rows of matrices, turned, cut and scaled."""
    first = torch.baddbmm(2 * total, a, b.mT)
    second = torch.baddbmm(first.tanh() + total, b, a, beta=0.5, alpha=-1) + total
    return [first, second, a[:, 4:] @ second, first[..., 8:].mT @ b[:, :, 1:] + first[..., :1].mT @ total[:, :, 1:]]


def single(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """The same of single matrices, and one row for all."""
    first = torch.addmm(total[0, 0], a[0], b[1].mT)
    second = torch.addmm(first, b[0], a[0].sin(), beta=2, alpha=-1)
    return [first, second, second.mT @ a[1, :, :12].cos(), a[0, 3:] @ first]


@TYPES
@pytest.mark.parametrize("body", [several, single])
@pytest.mark.parametrize("lay", LAYOUTS)
def test_inductor_computes_the_same(
    body: Callable[[Tensor, Tensor, Tensor], list[Tensor]], lay: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    inputs = [lay(drawn(2, 16, 16, seed=i, dtype=dtype)) for i in range(3)]
    chosen = Noted(OP)
    run = Standalone(recorded(body, inputs), {"post_grad_custom_post_pass": chosen})
    for found, wanted in zip(run(*inputs), body(*[x.double() for x in inputs]), strict=True):
        near(found, wanted)
    assert chosen.count >= 4


@pytest.mark.parametrize("lay", LAYOUTS)
def test_a_total_may_lie_anyhow(lay: Callable[[Tensor], Tensor]) -> None:
    def body(total: Tensor, x: Tensor) -> list[Tensor]:
        return [torch.baddbmm(total, x, x, beta=0.5, alpha=2), torch.addmm(total[0], x[0], x[1])]

    inputs = [lay(drawn(3, 16, 16, seed=i)) for i in range(2)]
    run = Standalone(recorded(body, inputs), {"post_grad_custom_post_pass": Noted(OP)})
    for found, wanted in zip(run(*inputs), body(*[x.double() for x in inputs]), strict=True):
        near(found, wanted)


@TYPES
def test_sizes_may_change(dtype: torch.dtype) -> None:
    """One graph for batches of any length; the kernel is told how long they are."""
    torch._dynamo.reset()
    chosen = Noted(OP)
    run = torch.compile(
        lambda x, w: torch.bmm(x, w).relu() @ w, dynamic=True, options={"post_grad_custom_post_pass": chosen}
    )
    w = drawn(3, 16, 16, dtype=dtype)
    for rows in (20, 24, 33):
        x = drawn(3, rows, 16, seed=rows, dtype=dtype)
        near(run(x, w), (x.double() @ w.double()).relu() @ w.double())
    assert chosen.count == 2


def test_a_memory_in_machine_code_has_the_gradients_of_double_precision() -> None:
    """Several chunks of one body, whose products, of the gradients too, are the kernel's."""
    torch._dynamo.reset()
    exact = nldsl.compile("std.titans:LMM", dim=32, heads=2, chunk=8, dtype=torch.float64)
    module = nldsl.compile("std.titans:LMM", dim=32, heads=2, chunk=8)
    module.load_state_dict({name: x.float() for name, x in exact.state_dict().items()})
    module.compile()
    x, factors = drawn(2, 40, 32), drawn(2, 40, 32, seed=1)

    def seen(of: CompiledModule, dtype: torch.dtype) -> list[Tensor]:
        streams = x.to(dtype).requires_grad_()
        y = of(streams)[0]
        return [y, *torch.autograd.grad((y * factors).sum(), [streams, *of.parameters()])]

    for _ in range(2):  # the first time, bodies are run as they are to see what they give
        for found, wanted in zip(seen(module, torch.float32), seen(exact, torch.float64), strict=True):
            assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize(
    ("a", "b", "dtype", "expected"),
    [
        ((16, 16), (16, 16), torch.float32, True),
        ((8, 16, 16), (8, 16, 16), torch.float32, True),
        ((16, 1), (1, 16), torch.float32, False),  # no sum
        ((16, 16), (16, 1), torch.float32, False),  # one is fused with what is around it
        ((16, 16), (16, 16), torch.float64, True),
        ((16, 16), (16, 16), torch.bfloat16, False),
    ],
)
def test_it_is_for_matrices_in_single_and_double_precision(
    a: Sequence[int], b: Sequence[int], dtype: torch.dtype, expected: bool
) -> None:
    assert gemm.pays(torch.empty(*a, dtype=dtype), torch.empty(*b, dtype=dtype)) is expected


def test_what_counts_is_the_operator_that_torch_knows() -> None:
    a, b, total = drawn(2, 9, 8), drawn(2, 8, 9, seed=1), drawn(9, seed=2)
    near(OP(a, b, total, 0.5, 2.0), 0.5 * total.double() + 2 * (a.double() @ b.double()))
    torch.library.opcheck(OP, (a, b, None, 0.0, 1.0), test_utils=("test_schema", "test_faketensor"))
