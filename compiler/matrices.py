"""Products of matrices on a CPU, by oneDNN where it is faster: it uses all of a wide CPU, where the library that torch
takes for float32 uses half of some, and it is not slow where a matrix has only a few columns."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.transforms import transformed
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.flop_counter import bmm_flop, mm_flop, register_flop_formula

aten = torch.ops.aten

# Multiplications in one product: with fewer, a call costs what it saves.
ENOUGH = 1 << 22
ENOUGH_IF_THIN = 1 << 19
THIN = range(2, 9)  # columns
AT_HAND = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"  # type: ignore[no-untyped-call]


@torch.library.custom_op(
    "nldsl::product", mutates_args=(), schema="(Tensor a, Tensor b) -> Tensor", tags=(torch.Tag.flexible_layout,)
)
def product(a: Tensor, b: Tensor) -> Tensor:
    """[n, k] @ [k, m], or [c, n, k] @ [c, k, m]. One operator, for autograd and for counts of FLOPs."""
    if not a.is_cpu:
        return a @ b
    if a.dim() == 3:
        found = a.new_empty(*a.shape[:-1], b.shape[-1])
        for into, x, y in zip(found, a, b, strict=True):
            into.copy_(_by_onednn(x, y))
        return found
    if a.stride(0) == 1 and a.shape[0] > b.shape[1]:  # what lies across is turned first: the smaller matrix then
        return _by_onednn(b.t(), a.t()).t().contiguous()
    return _by_onednn(a, b)


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return found


@product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(*a.shape[:-1], b.shape[-1])


def _kept(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    a, b = inputs
    ctx.save_for_backward(a if b.requires_grad else None, b if a.requires_grad else None)


def _gradients(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = ctx.saved_tensors
    of_a, of_b = ctx.needs_input_grad
    return multiplied(given, b.mT) if of_a else None, multiplied(a.mT, given) if of_b else None


product.register_autograd(_gradients, setup_context=_kept)


@register_flop_formula(torch.ops.nldsl.product)
def _flops(a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    return int((mm_flop if len(a) == 2 else bmm_flop)(a, b))


def multiplied(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, of two matrices or of two rows of them."""
    return product(a, b) if a.is_cpu and pays(a, b) else a @ b


def by_rows(x: Tensor, w: Tensor) -> Tensor:
    """x [..., n] @ w [n, m]. What records operators, or transforms them, is given the one it knows."""
    known = torch.compiler.is_compiling() or get_proxy_mode() is not None or transformed()
    if known or not x.is_cpu or torch.is_autocast_enabled("cpu"):
        return x @ w
    rows = x.flatten(0, -2)
    return product(rows, w).view(*x.shape[:-1], w.shape[-1]) if pays(rows, w) else x @ w


def pays(a: Tensor, b: Tensor) -> bool:
    """Whether a product of two matrices, or of two rows of them, is faster so on a CPU."""
    if not AT_HAND or a.dtype is not torch.float32 or b.dtype is not torch.float32:
        return False
    rows, inner, columns = sizes(a, b)
    thin = a.dim() == 2 and columns in THIN
    return rows * inner * columns >= (ENOUGH_IF_THIN if thin else ENOUGH)


def sizes(a: Tensor, b: Tensor) -> tuple[int, int, int]:
    """Rows, terms and columns of a product; of sizes that may change, what they were."""
    rows, inner, columns = (n if isinstance(n, int) else n.node.hint or 0 for n in (*a.shape[-2:], b.shape[-1]))
    return rows, inner, columns


def chosen(graph: fx.Graph) -> None:
    """Let a graph of aten operators that runs on a CPU make products so where that pays."""
    for target in (aten.mm.default, aten.bmm.default):
        for node in graph.find_nodes(op="call_function", target=target):
            a, b = (n.meta.get("val") for n in node.args)
            if a is not None and b is not None and pays(a, b):
                node.target = torch.ops.nldsl.product.default
