"""The early part of a body for many chunks at once, and how what it gives is laid out."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.bodies.adjoint import laid
from nldsl.compiler.bodies.mapping import Mapped
from nldsl.compiler.bodies.standalone import Standalone
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


def early(x: Tensor, w: Tensor, scale: Tensor) -> list[Tensor]:
    y = torch.tanh(x @ w)
    return [y * scale, (y @ y.mT).sum(-1), torch.ones_like(scale) * 2]


def given() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*s, generator=random, dtype=torch.float64) for s in ((2, 5, 3, 4), (4, 4), (5, 1)))  # type: ignore[return-value]


@pytest.mark.parametrize("patience", [0, 1, 9])
def test_mapped_it_is_what_chunks_give_one_by_one(patience: int) -> None:
    """Traced or not, with gradients of gradients; chunks lie along an input's own axis, or an input is for all."""
    x, w, scale = given()
    graph = make_fx(early)(x[:, 0], w, scale[0])
    mapped = Mapped(graph, patience)
    for _ in range(3):
        leaves = [t.clone().requires_grad_() for t in (x, w, scale)]
        chunks = mapped(leaves, [1, None, 0])
        assert len(chunks) == 5
        apart = [early(leaves[0][:, i], leaves[1], leaves[2][i]) for i in range(5)]
        totals = [sum((t * t * t).sum() for chunk in found for t in chunk[:2]) for found in (chunks, apart)]
        firsts = [torch.autograd.grad(total, leaves, create_graph=True) for total in totals]
        seconds = [torch.autograd.grad(sum((g * g).sum() for g in first), leaves) for first in firsts]
        for found, expected in ((totals[:1], totals[1:]), firsts, seconds):
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        for found, expected in zip(chunks, apart, strict=True):
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_options_reach_inductor() -> None:
    x, w, scale = (t.float() for t in given())
    found = Standalone(make_fx(early)(x[:, 0], w, scale[0]), {"size_asserts": False})(x[:, 0], w, scale[0])
    for a, b in zip(found, early(x[:, 0], w, scale[0]), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(AttributeError, match="no_such_option"):
        Standalone(make_fx(early)(x[:, 0], w, scale[0]), {"no_such_option": 1})(x[:, 0], w, scale[0])


@pytest.mark.parametrize(
    ("x", "stride"),
    [
        (torch.arange(6.0).reshape(2, 3), (1, 2)),
        (torch.arange(6.0).reshape(2, 3).mT.contiguous().mT, (3, 1)),
        (torch.arange(3.0).expand(2, 3), (3, 1)),
        (torch.arange(3.0).repeat(2, 1), (0, 1)),
        (torch.arange(4.0).reshape(1, 4), (77, 1)),
    ],
)
def test_numbers_are_laid_out_as_asked(x: Tensor, stride: tuple[int, int]) -> None:
    y = laid(x, stride, exactly=True)
    assert y.stride() == stride
    assert torch.equal(y, x)
