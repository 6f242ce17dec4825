"""What every primitive computes, in torch. Each form gets the torch module, so that reading the table of primitives
never imports it. Its tensors have any number of leading axes (batch, heads), aligned and broadcastable, before the axes
of the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """What a torch form may know of its use: the ranks of its arguments, its attributes, its result's shape. level:
    whether all arguments have one rank, and line up as they are."""

    ranks: tuple[int, ...]
    attrs: dict[str, Any]
    shape: Shape
    dtype: Any = None
    device: Any = None
    level: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", len(set(self.ranks)) < 2)


def align(call: Call, tensors: Sequence[Any]) -> list[Any]:
    """Put ones before the shorter shapes, after the leading axes, so that torch broadcasts as the language does."""
    top = max(call.ranks)
    return [
        t.reshape(*t.shape[: t.dim() - r], *(1,) * (top - r), *t.shape[t.dim() - r :])
        if hasattr(t, "reshape") and r < top
        else t
        for t, r in zip(tensors, call.ranks, strict=True)
    ]


def pointwise(form: Callable[..., Any]) -> Callable[..., Any]:
    return lambda T, call, *tensors: form(T, *(tensors if call.level else align(call, tensors)))


def matmul(T: Any, call: Call, a: Any, b: Any) -> Any:
    left, right = call.ranks
    rows, columns = a if left == 2 else a.unsqueeze(-2), b if right == 2 else b.unsqueeze(-1)
    same = rows.dim() == 3 and rows.shape[0] == columns.shape[0]
    product = T.bmm(rows, columns) if same else rows @ columns  # bmm is the same, and takes half the time
    product = product if right == 2 else product.squeeze(-1)
    return product if left == 2 else product.squeeze(-2 if right == 2 else -1)


def reduce(name: str) -> Callable[..., Any]:
    def form(T: Any, call: Call, x: Any) -> Any:
        rank, axis = call.ranks[0], call.attrs["axis"]
        axes = tuple(range(-rank, 0)) if axis is None else (axis % rank - rank,)
        return getattr(T, name)(x, dim=axes) if axes else x

    return form


def axis(name: str) -> Callable[..., Any]:
    return lambda T, call, x: getattr(T, name)(x, dim=call.attrs["axis"] % call.ranks[0] - call.ranks[0])


def sqrt(T: Any, x: Any) -> Any:
    """The square root, its derivative at 0 taken as 0: a weight that has had no gradient yet has no slope."""
    if not T.is_grad_enabled():  # nor inside an inner gradient
        return T.sqrt(x)
    positive = x > 0
    return T.where(positive, T.sqrt(T.where(positive, x, T.ones_like(x))), T.sqrt(x.detach()))


def split(T: Any, call: Call, x: Any) -> Any:
    heads, rank = call.attrs["heads"], call.ranks[0]
    lead = x.dim() - rank
    parts = x.reshape(*x.shape[: lead - 1], *x.shape[lead:-1], heads, x.shape[-1] // heads)
    return parts.movedim(-2, lead - 1)


def merge(T: Any, call: Call, x: Any) -> Any:
    lead = x.dim() - call.ranks[0]
    parts = x.movedim(lead - 1, -2)
    return parts.reshape(*parts.shape[:-2], -1).unsqueeze(lead - 1)


def per_head(T: Any, call: Call, x: Any) -> Any:
    lead = x.dim() - call.ranks[0]
    return x.reshape(*x.shape[: lead - 1], -1)


def reshape(T: Any, call: Call, x: Any) -> Any:
    return x.reshape(*x.shape[: x.dim() - call.ranks[0]], *call.shape)


def concat(T: Any, call: Call, *xs: Any) -> Any:
    lead = T.broadcast_shapes(*(x.shape[:-1] for x in xs))
    return T.cat([x.expand(*lead, x.shape[-1]) for x in xs], dim=-1)


def take(T: Any, call: Call, table: Any, ids: Any) -> Any:
    return T.take_along_dim(table, ids.long()[..., None, None], dim=-2).squeeze(-2)


def entropy(T: Any, call: Call, logits: Any, ids: Any) -> Any:
    chosen = T.take_along_dim(logits, ids.long()[..., None], dim=-1).squeeze(-1)
    return T.logsumexp(logits, dim=-1) - chosen


def orthogonal(T: Any, call: Call, g: Any) -> Any:
    """Newton-Schulz with Muon's quintic coefficients, on the shorter side."""
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    norm = sqrt(T, (x * x).sum((-2, -1), keepdim=True))
    x = x / (norm + 1e-7)
    for _ in range(call.attrs["rounds"]):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


def rope(T: Any, call: Call, x: Any, position: Any) -> Any:
    """The pairs are two chunks, whose gradient is one concatenation: those of two slices would each fill a whole
    tensor, and machine code would work out the angles for each."""
    half = x.shape[-1] // 2
    steps = T.arange(half, dtype=x.dtype, device=x.device) / half
    angle = position.to(x.dtype)[..., None] * float(call.attrs["base"]) ** -steps
    cos, sin = angle.cos(), angle.sin()
    a, b = x.chunk(2, dim=-1)
    return T.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def fill(value: float) -> Callable[..., Any]:
    return lambda T, call: T.full((1, *call.shape), value, dtype=call.dtype, device=call.device)


def where(T: Any, condition: Any, a: Any, b: Any) -> Any:
    return T.where(condition, a, b)


def pick(T: Any, a: Any, b: Any, form: Callable[..., Any]) -> Any:
    like = a if hasattr(a, "dtype") else b
    return form(*(v if hasattr(v, "dtype") else T.as_tensor(v, dtype=like.dtype, device=like.device) for v in (a, b)))
