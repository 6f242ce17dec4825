"""The one table of primitives: what every name that is not defined in text takes, gives and computes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nldsl import shape_rules, torch_forms
from nldsl.shape_rules import Shape


@dataclass(frozen=True)
class Primitive:
    """args: names of the stream arguments, a trailing `*` for any number. attrs: numbers known at instantiation and
    their defaults (`...`: required). dtype: of the result, "same" for that of the arguments. smooth: gradient
    passes. fold: the same on exact numbers. state: keeps something from tick to tick. takes: what its arguments must be
    where that is not a number: "bool", "int", or "any"."""

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
    takes: tuple[str, ...] = ()

    def wants(self, position: int) -> str:
        """What the argument at this position must be: real, bool, int or any."""
        return self.takes[min(position, len(self.takes) - 1)] if self.takes else "real"


# What the arguments must be, where that is not numbers; the last stands for all that follow.
TAKES: dict[str, tuple[str, ...]] = {
    "and": ("bool",),
    "or": ("bool",),
    "not": ("bool",),
    "where": ("bool", "real"),
    "take": ("real", "int"),
    "cross_entropy": ("real", "int"),
    "one_hot": ("int",),
    "data": ("any",),
    "stop": ("any",),
    "per_head": ("any",),
    "reshape": ("any",),
}


def _rows() -> list[Primitive]:
    rows: list[Primitive] = []

    def row(name: str, args: str, shape: Callable[..., Shape], torch: Any, doc: str, **rest: Any) -> None:
        rows.append(Primitive(name, tuple(args.split()), shape, torch, doc, takes=TAKES.get(name, ()), **rest))

    def each(name: str, args: str, form: Callable[..., Any], doc: str, **rest: Any) -> None:
        row(name, args, shape_rules.broadcast, torch_forms.pointwise(form), doc, **rest)

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
        "where",
        "condition a b",
        torch_forms.where,
        "a where the condition holds, b elsewhere",
        fold=lambda c, a, b: a if c else b,
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
    each("sqrt", "x", torch_forms.sqrt, "the square root; its derivative at 0 is taken as 0", fold=_sqrt)
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
        each(
            name,
            "x",
            lambda T, x, n=name: getattr(T, n)(x),
            doc,
            dtype="int" if name == "floor" else "real",
            smooth=False,
            fold=fold,
        )
    each(
        "minimum",
        "a b",
        lambda T, a, b: torch_forms.pick(T, a, b, T.minimum),
        "the smaller of two, entry by entry",
        fold=min,
    )
    each(
        "maximum",
        "a b",
        lambda T, a, b: torch_forms.pick(T, a, b, T.maximum),
        "the larger of two, entry by entry",
        fold=max,
    )
    each(
        "clamp",
        "x low high",
        lambda T, x, low, high: torch_forms.pick(T, torch_forms.pick(T, x, low, T.maximum), high, T.minimum),
        "x kept between low and high",
        fold=lambda x, low, high: min(max(x, low), high),
    )
    each("data", "x", lambda T, x: x, "x, blocking the inner gradient", dtype="same")
    each("stop", "x", lambda T, x: x.detach(), "x, blocking every gradient", dtype="same", smooth=False)

    row("matmul", "a b", shape_rules.matmul, torch_forms.matmul, "a @ b, in row convention: y = x @ w")
    for name, function in (("sum", "sum"), ("mean", "mean"), ("max", "amax")):
        row(
            name,
            "x",
            shape_rules.reduce,
            torch_forms.reduce(function),
            f"the {name} of all entries, or along one axis",
            attrs={"axis": None},
        )
    for name in ("softmax", "log_softmax", "cumsum"):
        row(name, "x", shape_rules.along, torch_forms.axis(name), f"{name} along an axis", attrs={"axis": -1})
    row(
        "logsumexp",
        "x",
        shape_rules.reduce,
        torch_forms.axis("logsumexp"),
        "log(sum(exp(x))) along an axis",
        attrs={"axis": -1},
    )
    row(
        "outer",
        "a b",
        shape_rules.outer,
        lambda T, c, a, b: a.unsqueeze(-1) * b.unsqueeze(-2),
        "the matrix of a[i] * b[j]",
    )
    row("transpose", "x", lambda x: shape_rules.matrix(x)[::-1], lambda T, c, x: x.mT, "rows and columns exchanged")
    row("concat", "xs*", shape_rules.concat, torch_forms.concat, "joined along the last axis")
    row(
        "slice",
        "x",
        shape_rules.slice,
        lambda T, c, x: x[..., c.attrs["start"] : c.attrs["stop"]],
        "entries start to stop (exclusive) of the last axis",
        attrs={"start": ..., "stop": ...},
    )
    row(
        "reshape",
        "x",
        shape_rules.reshape,
        torch_forms.reshape,
        "the same entries in another shape",
        attrs={"shape": ...},
    )
    row("split", "x", shape_rules.split, torch_forms.split, "the last axis cut into heads", attrs={"heads": ...})
    row("merge", "x", shape_rules.merge, torch_forms.merge, "the heads joined along the last axis")
    row("per_head", "x", lambda x: (), torch_forms.per_head, "a vector read as one number per head")
    row("zeros", "", lambda shape: shape, torch_forms.fill(0.0), "zeros of a shape", attrs={"shape": ...})
    row("ones", "", lambda shape: shape, torch_forms.fill(1.0), "ones of a shape", attrs={"shape": ...})
    row("take", "table ids", shape_rules.take, torch_forms.take, "the row of a table at an index")
    row(
        "one_hot",
        "ids",
        lambda ids, n: (n,),
        lambda T, c, i: (i.long()[..., None] == T.arange(c.attrs["n"], device=i.device)).to(c.dtype),
        "1 at the index, 0 elsewhere",
        attrs={"n": ...},
        smooth=False,
    )
    row(
        "cross_entropy",
        "logits ids",
        shape_rules.entropy,
        torch_forms.entropy,
        "minus the log probability of an index, in nats",
    )
    row(
        "orthogonal",
        "g",
        lambda g, rounds: shape_rules.matrix(g),
        torch_forms.orthogonal,
        "the nearest orthogonal matrix, by Newton-Schulz (Muon)",
        attrs={"rounds": 5},
    )
    row("rope", "x position", shape_rules.rope, torch_forms.rope, "rotary position embedding", attrs={"base": 10000})
    row(
        "causal_conv",
        "x kernel",
        shape_rules.conv,
        None,
        "depthwise convolution along time; zeros before the start",
        state=True,
    )
    row("tick", "", lambda: (), None, "the number of this tick, from 0", dtype="int", smooth=False)
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
