"""Products of matrices in what inductor compiles: by a kernel of our own (`gemm.cpp`), as the library that torch takes
uses half of some wide CPUs, and has much to do before a small product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nldsl.compiler import matrices
from nldsl.compiler.bodies import native
from torch import Tensor, fx
from torch._inductor import ir
from torch._inductor.kernel.mm_common import mm_args
from torch._inductor.lowering import register_lowering
from torch._inductor.virtualized import V

aten = torch.ops.aten

SOURCE = Path(__file__).with_suffix(".cpp")
TARGETS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)
LEAST = 2  # rows and columns; terms twice that


@torch.library.custom_op("nldsl::gemm", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def gemm(a: Tensor, b: Tensor, total: Tensor | None, beta: float, alpha: float) -> Tensor:
    """beta * total + alpha * a @ b, of a [n, k], b [k, m] and total [n, m], or of rows of them. total: broadcast."""
    product = alpha * (a @ b)
    return product if total is None or beta == 0 else beta * total + product


@gemm.register_fake
def _(a: Tensor, b: Tensor, total: Tensor | None, beta: float, alpha: float) -> Tensor:
    return a.new_empty(*a.shape[:-1], b.shape[-1])


def kernel(dtype: torch.dtype) -> Callable[..., None]:
    """The kernel: of a, b, total and what it writes, then of numbers, as `gemm.cpp` has them."""
    return native.built(SOURCE, dtype, tensors=4, integers=17, factors=2)


class Product(native.Call):
    """A call of the kernel."""

    def told(self) -> tuple[list[Any], list[Any]]:
        inputs: list[Any] = [*self.inputs]
        a, b, *total = inputs
        beta, alpha = self.constant_args
        sums = native.lies(total[0])[:3] if total else (0, 0, 0)
        places = [*native.lies(a), *native.lies(b), *sums, *native.lies(self)[1:3]]
        shape = [*([1, *a.get_size()])[-3:], b.get_size()[-1]]
        return [a, b, *(total or [self])], [*places, *shape, float(beta if total else 0), float(alpha)]


def _lying(x: Any, *axes: int) -> Any:
    """x as it is where its numbers follow one another along one of the axes, else a copy that lies row by row."""
    lying: Any = ir.ExternKernel.unwrap_storage([x])[0]
    lying.freeze_layout()
    steps = [lying.get_stride()[axis] for axis in axes]
    lies = any(V.graph.sizevars.statically_known_equals(s, 1) for s in steps)
    return x if lies else ir.ExternKernel.require_contiguous(x)


@register_lowering(torch.ops.nldsl.gemm.default, type_promotion_kind=None)
def _(a: Any, b: Any, total: Any, beta: float, alpha: float) -> Any:
    totals = [] if total is None else [total]
    _, _, _, layout, a, b, *others = mm_args(a, b, *totals)  # type: ignore[no-untyped-call]
    inputs = [a, _lying(b, -2, -1), *(_lying(x, -1) for x in others)]
    return ir.TensorBox.create(Product(layout, inputs, (beta, alpha)))


def chosen(graph: fx.Graph) -> None:
    """Let a graph's products be made by the kernel where that pays."""
    for target in TARGETS:
        for node in graph.find_nodes(op="call_function", target=target):
            *total, a, b = node.args
            _chosen(node, a, b, *total)


def _chosen(node: fx.Node, a: fx.Node, b: fx.Node, total: fx.Node | None = None) -> None:
    x, y = a.meta["val"], b.meta["val"]
    beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
    if pays(x, y) and all(isinstance(n, int | float) for n in (beta, alpha)):
        node.target, node.args, node.kwargs = torch.ops.nldsl.gemm.default, (a, b, total, beta, alpha), {}
    elif node.target is aten.baddbmm.default and beta == 1 and 1 in matrices.sizes(x, y)[::2]:
        with node.graph.inserting_before(node):
            product = node.graph.call_function(aten.bmm.default, (a, b))
        product.meta["val"] = x @ y
        node.target, node.args, node.kwargs = aten.add.Tensor, (total, product), {"alpha": alpha}


def pays(a: Tensor, b: Tensor) -> bool:
    """Whether a product of two matrices, or of two rows of them, is faster so. A row or a column is best left to
    inductor: it is fused with what is around it."""
    known = a.is_cpu and a.dtype is b.dtype and a.dtype in native.NUMBERS
    rows, terms, columns = matrices.sizes(a, b)
    return known and min(rows, columns) >= LEAST and terms >= 2 * LEAST
