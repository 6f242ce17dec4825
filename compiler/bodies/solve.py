"""Triangular systems in what inductor compiles: by a kernel of our own (`solve.cpp`), as torch has more to do before a
small one than for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from nldsl.compiler.bodies import native
from torch import Tensor, fx
from torch._inductor import ir
from torch._inductor.lowering import broadcast_symbolic_shapes, expand, permute, register_lowering, view
from torch._inductor.utils import sympy_product

SOURCE = Path(__file__).with_suffix(".cpp")
TARGET = torch.ops.aten.linalg_solve_triangular.default


@torch.library.custom_op("nldsl::solve", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def solve(a: Tensor, b: Tensor, upper: bool, left: bool, unitriangular: bool) -> Tensor:
    """x of a @ x = b, for a triangular matrix a [n, n] and b [n, m], or of x @ a = b with b [m, n]; or of rows of them,
    broadcast."""
    found: Tensor = torch.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unitriangular)
    return found


@solve.register_fake
def _(a: Tensor, b: Tensor, upper: bool, left: bool, unitriangular: bool) -> Tensor:
    """As torch lays it: a graph may count on that, and inductor then keeps to it."""
    found: Tensor = torch.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unitriangular)
    return found


def kernel(dtype: torch.dtype) -> Callable[..., None]:
    """The kernel: of a, b and what it writes, then of numbers, as `solve.cpp` has them."""
    return native.built(SOURCE, dtype, tensors=3, integers=13)


class System(native.Call):
    """A call of the kernel, which writes its result row by row."""

    def told(self) -> tuple[list[Any], list[Any]]:
        a, b = self.inputs
        return [a, b], [*native.lies(a), *native.lies(b), *self.get_size(), *map(int, self.constant_args)]


@register_lowering(torch.ops.nldsl.solve.default, type_promotion_kind=None)
def _(a: Any, b: Any, upper: bool, left: bool, unitriangular: bool) -> Any:
    if not left:
        return _turned(_solved(_turned(a), _turned(b), not upper, unitriangular))
    return _solved(a, b, upper, unitriangular)


def _solved(a: Any, b: Any, upper: bool, unitriangular: bool) -> Any:
    lead = broadcast_symbolic_shapes(a.get_size()[:-2], b.get_size()[:-2])  # type: ignore[no-untyped-call]
    sides = [_in_a_row(x, lead) for x in (a, b)]
    layout = ir.FixedLayout(sides[1].get_device(), sides[1].get_dtype(), sides[1].get_size())
    found = ir.TensorBox.create(System(layout, sides, (upper, unitriangular)))
    return view(found, [*lead, *b.get_size()[-2:]])


def _turned(x: Any) -> Any:
    *lead, row, column = range(len(x.get_size()))
    return permute(x, [*lead, column, row])


def _in_a_row(x: Any, lead: Sequence[Any]) -> Any:
    """Matrices [..., n, m] as one row of as many as `lead` says: copied where no single step leads through them."""
    x.realize()
    last = x.get_size()[-2:]
    return ir.ExternKernel.realize_input(view(expand(x, [*lead, *last]), [sympy_product(lead), *last]))


def chosen(graph: fx.Graph) -> None:
    """Let a graph's triangular systems be solved by the kernel."""
    for node in graph.find_nodes(op="call_function", target=TARGET):
        a = node.args[0].meta["val"]
        if a.is_cpu and a.dtype in native.NUMBERS:
            options = {"left": True, "unitriangular": False, **node.kwargs}
            node.args = (*node.args, options["upper"], options["left"], options["unitriangular"])
            node.target, node.kwargs = torch.ops.nldsl.solve.default, {}
