"""Torch forms of the primitives that gain from knowing the leading axes; all others are as their table says.

The forms of the table broadcast: a weight that all ticks share would be copied for each. Here it is used once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nldsl.compiler import matrices
from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Body, Stream
from nldsl.primitives import PRIMITIVES
from nldsl.torch_forms import Call

NEEDS_TENSORS = {"exp", "log", "sigmoid", "where", "sqrt", "tanh", "sin", "cos", "abs", "floor", "sign"}
INDEXED = ("take", "cross_entropy", "one_hot")


class Calls(dict[str, Call]):
    """For each stream of a body, what its torch form may know: the ranks of its arguments, its numbers, its shape.
    Layers of a kind share what is made of one of them, so most streams are never asked for."""

    def __init__(self, body: Body, dtype: torch.dtype, device: torch.device) -> None:
        self.streams = {r.id: r for r in body.records if isinstance(r, Stream)}
        self.ranks = {p.id: len(p.shape) for p in body.inputs} | {n: len(s.shape) for n, s in self.streams.items()}
        self.dtype, self.device = dtype, device

    def __missing__(self, name: str) -> Call:
        stream = self.streams[name]
        of_args = tuple(self.ranks[a] if isinstance(a, str) else 0 for a in stream.args)
        attrs = {n: tuple(map(int, v)) if isinstance(v, tuple) else v for n, v in stream.attrs}
        call = self[name] = Call(of_args, attrs, tuple(map(int, stream.shape)), self.dtype, self.device)
        return call


def apply(stream: Stream, args: list[Any], call: Call) -> Tensor:
    """A primitive on numbers and tensors [batch, time, heads, *shape]."""
    if stream.op in NEEDS_TENSORS:
        args = [scalar(a, call) if isinstance(a, float) else a for a in args]
    elif stream.dtype == "real" and stream.op not in INDEXED:
        args = [a.to(call.dtype) if isinstance(a, Tensor) and a.dtype is torch.int64 else a for a in args]
    args = narrowed(args, call.dtype)
    own = OWN.get(stream.op)
    if own is not None:
        return own(call, *args)
    form = PRIMITIVES[stream.op].torch
    assert form is not None
    result = form(torch, call, *args)
    return lifted(result, call)


def narrowed(args: list[Any], dtype: torch.dtype) -> list[Any]:
    """In a rule, what depends on the clock alone is in float64: 1 - b^n would lose half its digits in less. Where it
    meets other tensors it takes their type."""
    types = {a.dtype for a in args if isinstance(a, Tensor) and a.is_floating_point()}
    if len(types) < 2:
        return args
    return [a.to(dtype) if isinstance(a, Tensor) and a.dtype is torch.float64 else a for a in args]


def lifted(result: Tensor, call: Call) -> Tensor:
    """A result of numbers alone has no leading axes yet."""
    missing = LEAD + len(call.shape) - result.dim()
    return result.reshape(*(1,) * missing, *result.shape) if missing > 0 else result


def scalar(value: float, call: Call) -> Tensor:
    return torch.full((1,) * LEAD, value, dtype=call.dtype, device=call.device)


def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """a @ b. A vector per tick by a matrix that all ticks share is one product per copy of the matrix."""
    left, right = call.ranks
    if left == 1 and right == 2 and b.shape[1] == 1:
        return shared_matrix(a, b)
    rows, columns = a if left == 2 else a.unsqueeze(-2), b if right == 2 else b.unsqueeze(-1)
    product = rows @ columns
    product = product if right == 2 else product.squeeze(-1)
    return product if left == 2 else product.squeeze(-2 if right == 2 else -1)


def shared_matrix(x: Tensor, w: Tensor) -> Tensor:
    """[B, T, H, n] by [B or 1, 1, H or 1, n, m]."""
    if w.shape[0] == 1 and w.shape[2] == 1:
        return matrices.by_rows(x, w.flatten(0, 3))
    if x.shape[1] == 1:
        return (x.unsqueeze(-2) @ w).squeeze(-2)
    heads = max(x.shape[2], w.shape[2])
    rows = x.expand(-1, -1, heads, -1).transpose(1, 2)  # [B, H, T, n]
    return (rows @ w.squeeze(1)).transpose(1, 2)  # not an index: its gradient would fill a tensor with zeros first


def take(call: Call, table: Tensor, ids: Tensor) -> Tensor:
    if table.shape[:LEAD] == (1,) * LEAD:
        return torch.nn.functional.embedding(ids.long(), table.flatten(0, 3))
    return torch.take_along_dim(table, ids.long()[..., None, None], dim=-2).squeeze(-2)


def zeros(call: Call) -> Tensor:
    return torch.zeros((1,) * LEAD + call.shape, dtype=call.dtype, device=call.device)


def ones(call: Call) -> Tensor:
    return torch.ones((1,) * LEAD + call.shape, dtype=call.dtype, device=call.device)


def concat(call: Call, *xs: Tensor) -> Tensor:
    lead = torch.broadcast_shapes(*(x.shape[:-1] for x in xs))  # type: ignore[no-untyped-call]
    return torch.cat([x.expand(*lead, x.shape[-1]) for x in xs], dim=-1)


OWN: dict[str, Callable[..., Tensor]] = {
    "matmul": matmul,
    "take": take,
    "zeros": zeros,
    "ones": ones,
    "concat": concat,
}
