"""Products of matrices by oneDNN: the numbers that torch gives, in every layout and of every order of gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nldsl.compiler import matrices
from nldsl.compiler.bodies.inplace import inplace
from nldsl.compiler.bodies.tracing import recorded
from nldsl.compiler.matrices import by_rows, pays, product
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, vmap
from torch.utils.flop_counter import FlopCounterMode

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
OP = torch.ops.nldsl.product.default
TARGETS = {torch.ops.aten.mm.default: "mm", torch.bmm: "bmm", OP: "product"}


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "AT_HAND", True)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def across(x: Tensor) -> Tensor:
    """The same numbers, column by column."""
    return x.mT.contiguous().mT


def near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.detach().abs().max()))


@needs_onednn
@pytest.mark.parametrize("left", [Tensor.contiguous, across])
@pytest.mark.parametrize("right", [Tensor.contiguous, across])
@pytest.mark.parametrize("shapes", [((5, 30), (30, 7)), ((30, 5), (5, 3)), ((40, 30), (30, 1)), ((2, 5, 9), (2, 9, 7))])
def test_products_and_gradients_of_both_orders(
    left: Callable[[Tensor], Tensor], right: Callable[[Tensor], Tensor], shapes: tuple[tuple[int, ...], ...]
) -> None:
    def orders(function: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> list[Tensor]:
        a, b = (drawn(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes))
        a, b = left(a).requires_grad_(), right(b).requires_grad_()
        answer = function(a, b)
        first = torch.autograd.grad((answer**3).sum(), (a, b), create_graph=True)
        return [answer, *first, *torch.autograd.grad(sum((g**2).sum() for g in first), (a, b))]

    for found, wanted in zip(orders(product, torch.float32), orders(torch.matmul, torch.float64), strict=True):
        near(found, wanted)


@pytest.mark.parametrize(
    ("a", "b", "dtype", "expected"),
    [
        ((1024, 256), (256, 256), torch.float32, True),
        ((64, 64), (64, 64), torch.float32, False),  # a call takes longer
        ((1024, 256), (256, 4), torch.float32, True),  # few columns
        ((1024, 256), (256, 1), torch.float32, False),  # a vector is quick as it is
        ((1024, 256), (256, 256), torch.float64, False),
        ((1024, 256), (256, 256), torch.bfloat16, False),
        ((2, 512, 256), (2, 256, 1024), torch.float32, True),
        ((64, 64, 64), (64, 64, 64), torch.float32, False),  # each of them is small
        ((64, 1024, 256), (64, 256, 4), torch.float32, False),
    ],
)
def test_it_is_for_large_products_in_single_precision(
    a: tuple[int, ...], b: tuple[int, ...], dtype: torch.dtype, expected: bool
) -> None:
    assert pays(torch.empty(a, dtype=dtype), torch.empty(b, dtype=dtype)) is expected


@needs_onednn
def test_rows_of_a_sequence() -> None:
    x, w = drawn(2, 512, 1, 256), drawn(256, 256, seed=1)
    with FlopCounterMode(display=False) as counted:
        found = by_rows(x, w)
    near(found, x.double() @ w.double())
    assert counted.get_flop_counts()["Global"] == {torch.ops.nldsl.product: 2 * 1024 * 256 * 256}


@needs_onednn
@pytest.mark.parametrize("size", [(1024, 256, 256), (2, 256, 256, 128)])
def test_a_graph_is_run_with_them(size: tuple[int, ...]) -> None:
    *lead, n, k, m = size
    a, b = drawn(*lead, n, k), drawn(*lead, k, m, seed=1)
    graph = recorded(lambda x, y: [(x @ y) + 1], [a, b])
    (found,) = inplace(graph, "cpu")(a, b)
    near(found, a.double() @ b.double() + 1)
    assert [TARGETS[n.target] for n in graph.graph.nodes if n.target in TARGETS] == ["product"]


@needs_onednn
def test_only_what_gradients_need_is_kept() -> None:
    x, w = drawn(64, 8).requires_grad_(), drawn(8, 8, seed=1)
    node = product(x, w).grad_fn
    assert node is not None
    assert [None if kept is None else kept.shape for kept in node.saved_tensors] == [None, w.shape]


@needs_onednn
def test_derivatives_are_taken_forwards() -> None:
    x, w, tangent = drawn(1024, 256), drawn(256, 256, seed=1), drawn(1024, 256, seed=2)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(by_rows(forward_ad.make_dual(x, tangent), w)).tangent
    assert found is not None
    near(found, tangent.double() @ w.double())


def test_what_records_or_transforms_sees_a_product_that_it_knows() -> None:
    x, w = drawn(1024, 256), drawn(256, 256, seed=1)
    graph = recorded(lambda a, b: [by_rows(a, b)], [x, w])
    assert [TARGETS[n.target] for n in graph.graph.nodes if n.target in TARGETS] == ["mm"]
    rows = torch.stack([x, 2 * x])
    found = vmap(grad(lambda a, b: (by_rows(a, b) ** 2).sum(), 1), (0, None))(rows, w)
    near(found, torch.stack([2 * a.double().mT @ (a.double() @ w.double()) for a in rows]))
    with torch.autocast("cpu", torch.bfloat16):
        assert by_rows(x, w).dtype is torch.bfloat16
