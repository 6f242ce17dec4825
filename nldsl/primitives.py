"""The one table of primitives: what every name that is not defined in text takes, gives and computes.

A row holds the shape rule (on shapes per tick and per head), the torch form, and what the checks need to know.
Torch forms get the torch module, so that reading the table never imports it. Their tensors have any number of
leading axes (batch, heads), aligned and broadcastable, before the axes of the shape.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Shape = tuple[int, ...]


class Dim(int):
    """A size that remembers what the text calls it: `4 * d = 64`."""

    name: str

    def __new__(cls, value: int, name: str = "") -> Dim:
        size = super().__new__(cls, value)
        size.name = name or getattr(value, "name", "")
        return size


def show_shape(shape: Sequence[int]) -> str:
    """`[dim = 32, 4]`: sizes with the names the text gives them."""
    named = (f"{n} = {int(d)}" if (n := getattr(d, "name", "")) else str(int(d)) for d in shape)
    return "[" + ", ".join(named) + "]"


class ShapeError(Exception):
    """Two shapes that do not fit; the text says how."""


@dataclass(frozen=True)
class Call:
    """What a torch form may know of its use: the ranks of its arguments, its attributes, its result's shape."""

    ranks: tuple[int, ...]
    attrs: dict[str, Any]
    shape: Shape
    dtype: Any = None
    device: Any = None


@dataclass(frozen=True)
class Primitive:
    """args: names of the stream arguments, a trailing `*` for any number. attrs: numbers known at instantiation and
    their defaults (`...`: required). dtype: of the result, "same" for that of the arguments. smooth: gradient
    passes. fold: the same on exact numbers. state: keeps something from tick to tick."""

    name: str
    args: tuple[str, ...]
    shape: Callable[..., Shape]
    torch: Callable[..., Any] | None
    doc: str
    attrs: dict[str, Any] = field(default_factory=dict)
    dtype: str = "real"
    smooth: bool = True
    fold: Callable[..., Any] | None = None
    state: bool = False


# Shape rules


def broadcast(*shapes: Shape) -> Shape:
    result: list[int] = []
    for axis in range(-max(map(len, shapes)), 0):
        sizes = [s[axis] for s in shapes if len(s) >= -axis]
        wide = [d for d in sizes if d != 1]
        if any(d != wide[0] for d in wide):
            raise ShapeError(" and ".join(map(show_shape, shapes)) + f" do not line up: {wide[0]} is not {wide[-1]}")
        result.append(next((d for d in wide if getattr(d, "name", "")), wide[0]) if wide else sizes[0])
    return tuple(result)


def _matmul(a: Shape, b: Shape) -> Shape:
    if not a or not b or len(a) > 2 or len(b) > 2:
        raise ShapeError(f"`@` multiplies vectors and matrices, not {show_shape(a)} by {show_shape(b)}")
    if a[-1] != b[0]:
        raise ShapeError(f"{show_shape(a)} @ {show_shape(b)}: {int(a[-1])} columns meet {int(b[0])} rows")
    return a[:-1] + b[1:]


def _axis(shape: Shape, axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"{show_shape(shape)} has no axis {axis}")
    return axis % len(shape)


def _reduce(x: Shape, axis: int | None) -> Shape:
    return () if axis is None else tuple(d for i, d in enumerate(x) if i != _axis(x, axis))


def _along(x: Shape, axis: int) -> Shape:
    return x if not _axis(x, axis) < 0 else x


def _outer(a: Shape, b: Shape) -> Shape:
    if len(a) != 1 or len(b) != 1:
        raise ShapeError(f"`outer` takes two vectors, not {show_shape(a)} and {show_shape(b)}")
    return a + b


def _matrix(x: Shape) -> Shape:
    if len(x) != 2:
        raise ShapeError(f"a matrix is needed here, and {show_shape(x)} has {len(x)} axes")
    return x


def _concat(*shapes: Shape) -> Shape:
    if any(not s or s[:-1] != shapes[0][:-1] for s in shapes):
        raise ShapeError(" and ".join(map(show_shape, shapes)) + " can't be joined along their last axis")
    return (*shapes[0][:-1], sum(int(s[-1]) for s in shapes))


def _slice(x: Shape, start: int, stop: int) -> Shape:
    if not x or not 0 <= start < stop <= x[-1]:
        raise ShapeError(f"the last axis of {show_shape(x)} has no piece from {start} to {stop}")
    return (*x[:-1], stop - start)


def _reshape(x: Shape, shape: Shape) -> Shape:
    if math.prod(x) != math.prod(shape):
        raise ShapeError(f"{show_shape(x)} has {math.prod(x)} entries and {show_shape(shape)} {math.prod(shape)}")
    return shape


def _split(x: Shape, heads: int) -> Shape:
    if not x or heads < 1 or x[-1] % heads:
        raise ShapeError(f"the last axis of {show_shape(x)} can't be split into {heads} equal heads")
    return (*x[:-1], x[-1] // heads)


def _merge(x: Shape, heads: int) -> Shape:
    if not x:
        raise ShapeError("`merge` joins vectors; a number per head has no axis to join along")
    return (*x[:-1], x[-1] * heads)


def _take(table: Shape, ids: Shape) -> Shape:
    if len(table) != 2 or ids:
        raise ShapeError(f"`take` needs a table [n, d] and one index, not {show_shape(table)} and {show_shape(ids)}")
    return table[1:]


def _entropy(logits: Shape, ids: Shape) -> Shape:
    if len(logits) != 1 or ids:
        raise ShapeError(f"`cross_entropy` needs logits [n] and one index, not {show_shape(logits)}, {show_shape(ids)}")
    return ()


def _conv(x: Shape, kernel: Shape) -> Shape:
    if len(x) != 1 or len(kernel) != 2 or x != kernel[1:]:
        raise ShapeError(
            f"`causal_conv` needs x [d] and a kernel [width, d], not {show_shape(x)}, {show_shape(kernel)}"
        )
    return x


def _rope(x: Shape, position: Shape, base: Any) -> Shape:
    if len(x) != 1 or x[0] % 2 or position:
        raise ShapeError(f"`rope` turns pairs: it needs an even vector and one position, not {show_shape(x)}")
    return x


# Torch forms


def align(call: Call, tensors: Sequence[Any]) -> list[Any]:
    """Put ones before the shorter shapes, after the leading axes, so that torch broadcasts as the language does."""
    top = max(call.ranks, default=0)
    if top == 0 or call.ranks == (top,) * len(call.ranks):
        return list(tensors)
    return [
        t.reshape(*t.shape[: t.dim() - r], *(1,) * (top - r), *t.shape[t.dim() - r :])
        if hasattr(t, "reshape") and r < top
        else t
        for t, r in zip(tensors, call.ranks, strict=True)
    ]


def pointwise(form: Callable[..., Any]) -> Callable[..., Any]:
    return lambda T, call, *tensors: form(T, *align(call, tensors))


def _t_matmul(T: Any, call: Call, a: Any, b: Any) -> Any:
    match call.ranks:
        case (1, 1):
            return (a * b).sum(-1)
        case (1, 2):
            return (a.unsqueeze(-2) @ b).squeeze(-2)
        case (2, 1):
            return (a @ b.unsqueeze(-1)).squeeze(-1)
    return a @ b


def _t_reduce(name: str) -> Callable[..., Any]:
    def form(T: Any, call: Call, x: Any) -> Any:
        rank, axis = call.ranks[0], call.attrs["axis"]
        axes = tuple(range(-rank, 0)) if axis is None else (axis % rank - rank,)
        return getattr(T, name)(x, dim=axes) if axes else x

    return form


def _t_axis(name: str) -> Callable[..., Any]:
    return lambda T, call, x: getattr(T, name)(x, dim=call.attrs["axis"] % call.ranks[0] - call.ranks[0])


def _t_sqrt(T: Any, x: Any) -> Any:
    """The square root, its derivative at 0 taken as 0: a weight that has had no gradient yet has no slope."""
    positive = x > 0
    return T.where(positive, T.sqrt(T.where(positive, x, T.ones_like(x))), T.sqrt(x.detach()))


def _t_split(T: Any, call: Call, x: Any) -> Any:
    heads, rank = call.attrs["heads"], call.ranks[0]
    lead = x.dim() - rank
    parts = x.reshape(*x.shape[: lead - 1], *x.shape[lead:-1], heads, x.shape[-1] // heads)
    return parts.movedim(-2, lead - 1)


def _t_merge(T: Any, call: Call, x: Any) -> Any:
    lead = x.dim() - call.ranks[0]
    parts = x.movedim(lead - 1, -2)
    return parts.reshape(*parts.shape[:-2], -1).unsqueeze(lead - 1)


def _t_per_head(T: Any, call: Call, x: Any) -> Any:
    lead = x.dim() - call.ranks[0]
    return x.reshape(*x.shape[: lead - 1], -1)


def _t_reshape(T: Any, call: Call, x: Any) -> Any:
    return x.reshape(*x.shape[: x.dim() - call.ranks[0]], *call.shape)


def _t_concat(T: Any, call: Call, *xs: Any) -> Any:
    lead = T.broadcast_shapes(*(x.shape[:-1] for x in xs))
    return T.cat([x.expand(*lead, x.shape[-1]) for x in xs], dim=-1)


def _t_take(T: Any, call: Call, table: Any, ids: Any) -> Any:
    return T.take_along_dim(table, ids.long()[..., None, None], dim=-2).squeeze(-2)


def _t_entropy(T: Any, call: Call, logits: Any, ids: Any) -> Any:
    chosen = T.take_along_dim(logits, ids.long()[..., None], dim=-1).squeeze(-1)
    return T.logsumexp(logits, dim=-1) - chosen


def _t_orthogonal(T: Any, call: Call, g: Any) -> Any:
    """Newton-Schulz with Muon's quintic coefficients, on the shorter side."""
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    norm = _t_sqrt(T, (x * x).sum((-2, -1), keepdim=True))
    x = x / (norm + 1e-7)
    for _ in range(call.attrs["rounds"]):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


def _t_rope(T: Any, call: Call, x: Any, position: Any) -> Any:
    half = x.shape[-1] // 2
    steps = T.arange(half, dtype=x.dtype, device=x.device) / half
    angle = position.to(x.dtype)[..., None] * float(call.attrs["base"]) ** -steps
    a, b = x[..., :half], x[..., half:]
    return T.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


def _t_fill(value: float) -> Callable[..., Any]:
    return lambda T, call: T.full((1, *call.shape), value, dtype=call.dtype, device=call.device)


# The table


def _rows() -> list[Primitive]:
    rows: list[Primitive] = []

    def row(name: str, args: str, shape: Callable[..., Shape], torch: Any, doc: str, **rest: Any) -> None:
        rows.append(Primitive(name, tuple(args.split()), shape, torch, doc, **rest))

    def each(name: str, args: str, form: Callable[..., Any], doc: str, **rest: Any) -> None:
        row(name, args, broadcast, pointwise(form), doc, **rest)

    for name, symbol, form in (
        ("add", "+", operator.add),
        ("sub", "-", operator.sub),
        ("mul", "*", operator.mul),
        ("mod", "%", operator.mod),
    ):
        each(name, "a b", lambda T, a, b, f=form: f(a, b), f"a {symbol} b", dtype="same", fold=form)
    each("div", "a b", lambda T, a, b: a / b, "a / b", fold=lambda a, b: a / b if _real(a, b) else Fraction(a) / b)
    each("pow", "a b", lambda T, a, b: a**b, "a ^ b", fold=_pow)
    each("neg", "a", lambda T, a: -a, "-a", dtype="same", fold=operator.neg)
    for name, symbol, form in (
        ("lt", "<", operator.lt),
        ("le", "<=", operator.le),
        ("gt", ">", operator.gt),
        ("ge", ">=", operator.ge),
        ("eq", "==", operator.eq),
        ("ne", "!=", operator.ne),
    ):
        each(name, "a b", lambda T, a, b, f=form: f(a, b), f"a {symbol} b", dtype="bool", smooth=False, fold=form)
    each("and", "a b", lambda T, a, b: a & b, "a and b", dtype="bool", smooth=False, fold=lambda a, b: a and b)
    each("or", "a b", lambda T, a, b: a | b, "a or b", dtype="bool", smooth=False, fold=lambda a, b: a or b)
    each("not", "a", lambda T, a: ~a, "not a", dtype="bool", smooth=False, fold=operator.not_)
    each(
        "where", "condition a b", _where, "a where the condition holds, b elsewhere", fold=lambda c, a, b: a if c else b
    )
    for name, doc, fold in (
        ("exp", "e^x", math.exp),
        ("log", "the natural logarithm", math.log),
        ("sin", "the sine", math.sin),
        ("cos", "the cosine", math.cos),
        ("tanh", "the hyperbolic tangent", math.tanh),
        ("sigmoid", "1 / (1 + exp(-x))", lambda x: 1 / (1 + math.exp(-x))),
    ):
        each(name, "x", lambda T, x, n=name: getattr(T, n)(x), doc, fold=fold)
    each("abs", "x", lambda T, x: abs(x), "the absolute value", dtype="same", fold=abs)
    each("sqrt", "x", _t_sqrt, "the square root; its derivative at 0 is taken as 0", fold=_sqrt)
    for name, doc in (
        ("softplus", "log(1 + exp(x))"),
        ("relu", "max(x, 0)"),
        ("gelu", "x times the normal distribution function of x"),
        ("silu", "x * sigmoid(x)"),
    ):
        each(name, "x", lambda T, x, n=name: getattr(T.nn.functional, n)(x), doc, fold=_FOLDS.get(name))
    each("gelu_tanh", "x", lambda T, x: T.nn.functional.gelu(x, approximate="tanh"), "gelu by its tanh formula")
    for name, doc in (("sign", "-1, 0 or 1"), ("floor", "the whole number below")):
        fold = math.floor if name == "floor" else lambda x: (x > 0) - (x < 0)
        each(name, "x", lambda T, x, n=name: getattr(T, n)(x), doc, smooth=False, fold=fold)
    each("minimum", "a b", lambda T, a, b: _pick(T, a, b, T.minimum), "the smaller of two, entry by entry", fold=min)
    each("maximum", "a b", lambda T, a, b: _pick(T, a, b, T.maximum), "the larger of two, entry by entry", fold=max)
    each(
        "clamp",
        "x low high",
        lambda T, x, low, high: _pick(T, _pick(T, x, low, T.maximum), high, T.minimum),
        "x kept between low and high",
        fold=lambda x, low, high: min(max(x, low), high),
    )
    each("data", "x", lambda T, x: x, "x, blocking the inner gradient", dtype="same")
    each("stop", "x", lambda T, x: x.detach(), "x, blocking every gradient", dtype="same", smooth=False)

    row("matmul", "a b", _matmul, _t_matmul, "a @ b, in row convention: y = x @ w")
    for name, form in (("sum", "sum"), ("mean", "mean"), ("max", "amax")):
        row(name, "x", _reduce, _t_reduce(form), f"the {name} of all entries, or along one axis", attrs={"axis": None})
    for name in ("softmax", "log_softmax", "cumsum"):
        row(name, "x", _along, _t_axis(name), f"{name} along an axis", attrs={"axis": -1})
    row("logsumexp", "x", _reduce, _t_axis("logsumexp"), "log(sum(exp(x))) along an axis", attrs={"axis": -1})
    row("outer", "a b", _outer, lambda T, c, a, b: a.unsqueeze(-1) * b.unsqueeze(-2), "the matrix of a[i] * b[j]")
    row("transpose", "x", lambda x: _matrix(x)[::-1], lambda T, c, x: x.mT, "rows and columns exchanged")
    row("concat", "xs*", _concat, _t_concat, "joined along the last axis")
    row(
        "slice",
        "x",
        _slice,
        lambda T, c, x: x[..., c.attrs["start"] : c.attrs["stop"]],
        "entries start to stop (exclusive) of the last axis",
        attrs={"start": ..., "stop": ...},
    )
    row("reshape", "x", _reshape, _t_reshape, "the same entries in another shape", attrs={"shape": ...})
    row("split", "x", _split, _t_split, "the last axis cut into heads", attrs={"heads": ...})
    row("merge", "x", _merge, _t_merge, "the heads joined along the last axis")
    row("per_head", "x", lambda x: (), _t_per_head, "a vector read as one number per head")
    row("zeros", "", lambda shape: shape, _t_fill(0.0), "zeros of a shape", attrs={"shape": ...})
    row("ones", "", lambda shape: shape, _t_fill(1.0), "ones of a shape", attrs={"shape": ...})
    row("take", "table ids", _take, _t_take, "the row of a table at an index")
    row(
        "one_hot",
        "ids",
        lambda ids, n: (n,),
        lambda T, c, i: T.nn.functional.one_hot(i.long(), c.attrs["n"]).to(c.dtype),
        "1 at the index, 0 elsewhere",
        attrs={"n": ...},
        smooth=False,
    )
    row("cross_entropy", "logits ids", _entropy, _t_entropy, "minus the log probability of an index, in nats")
    row(
        "orthogonal",
        "g",
        lambda g, rounds: _matrix(g),
        _t_orthogonal,
        "the nearest orthogonal matrix, by Newton-Schulz (Muon)",
        attrs={"rounds": 5},
    )
    row("rope", "x position", _rope, _t_rope, "rotary position embedding", attrs={"base": 10000})
    row("causal_conv", "x kernel", _conv, None, "depthwise convolution along time; zeros before the start", state=True)
    row("tick", "", lambda: (), None, "the number of this tick, from 0", smooth=False)
    row("next", "x", lambda x: x, None, "the value one tick ahead", dtype="same")
    for name in ("window_sum", "window_mean", "window_last"):
        row(name, "x", lambda x: x, None, f"the {name[7:]} over the slower clock's window", state=True)
    return rows


def _real(*numbers: Any) -> bool:
    return any(isinstance(n, float) for n in numbers)


def _pow(a: Any, b: Any) -> Any:
    result = a**b if isinstance(b, int) and abs(b) < 4096 and not _real(a) else float(a) ** float(b)
    return Fraction(result) if isinstance(result, float) and not _real(a) and isinstance(b, int) else result


def _sqrt(x: Any) -> Any:
    root = math.isqrt(x) if isinstance(x, int) and x >= 0 else -1
    return root if root * root == x else math.sqrt(x)


def _where(T: Any, condition: Any, a: Any, b: Any) -> Any:
    return T.where(condition, a, b)


def _pick(T: Any, a: Any, b: Any, form: Callable[..., Any]) -> Any:
    like = a if hasattr(a, "dtype") else b
    return form(*(v if hasattr(v, "dtype") else T.as_tensor(v, dtype=like.dtype, device=like.device) for v in (a, b)))


_FOLDS: dict[str, Callable[[Any], Any]] = {
    "softplus": lambda x: math.log1p(math.exp(x)),
    "relu": lambda x: max(x, 0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
}

PRIMITIVES: dict[str, Primitive] = {p.name: p for p in _rows()}

OPERATORS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "%": "mod",
    "^": "pow",
    "@": "matmul",
    "<": "lt",
    "<=": "le",
    ">": "gt",
    ">=": "ge",
    "==": "eq",
    "!=": "ne",
    "and": "and",
    "or": "or",
}

# Names a text may use that are no row: numbers about a value, and a memory form.
INSPECTORS = ("rank", "shape", "width", "total_norm")
