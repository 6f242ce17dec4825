"""What is made of a weight, where that is a sum with one number per copy and tick for every term, or for every row.

Records are told as forms instead of tensors: sums of what the weight and its rules' own states were before a tick, and
of what was written since. The rows of one table say what each primitive makes of forms; what has no row is not affine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Stream

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.weight import Weight

# A coefficient: a number, or a Tensor [batch, ticks, heads] where it has any of them; of a form also
# [batch, ticks, heads, n], a number for every row of the weight.
Number = Any


@dataclass(frozen=True)
class Form:
    """sum of coefficient * term; a term is one of the weight's states before the tick, by name, or what was written
    to it since, by number."""

    terms: Mapping[str | int, Number]


@dataclass(frozen=True)
class Answer:
    """sum of coefficient * what the weight says about some rows, by number of that reading, and known rows
    [batch, ticks, heads, m] if there are any."""

    terms: Mapping[int, Number]
    known: Tensor | None = None


@dataclass(frozen=True)
class Key:
    """A multiple of the key."""

    factor: Number = 1.0


@dataclass(frozen=True)
class Outer:
    """A sum of x r^T at every tick, not yet written anywhere: pairs of [batch, ticks, heads, n] and [..., m]."""

    pairs: tuple[tuple[Tensor, Tensor], ...]

    @property
    def whole(self) -> Tensor:
        first, *others = (x.unsqueeze(-1) * r.unsqueeze(-2) for x, r in self.pairs)
        return sum(others, first)

    @property
    def shape(self) -> tuple[int, int]:
        x, r = self.pairs[0]
        return x.shape[-1], r.shape[-1]


SYMBOLS = (Form, Answer, Key, Outer)


class NotAffine(Exception):
    """It is no such sum; the message says where."""


def scaled(terms: Mapping[Any, Number], factor: Number) -> dict[Any, Number]:
    return {n: times(c, factor) for n, c in terms.items()}


def times(a: Number, b: Number) -> Number:
    """a * b; 0 and 1 stay numbers, so that what is not there costs nothing."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float | int) and one in (0, 1):
            return other if one else 0.0
    a, b = _aligned(a, b)
    return a * b


def plus(a: Mapping[Any, Number], b: Mapping[Any, Number]) -> dict[Any, Number]:
    return {**a, **{n: _added(a[n], c) if n in a else c for n, c in b.items()}}


def _added(a: Number, b: Number) -> Number:
    a, b = _aligned(a, b)
    return a + b


def _aligned(a: Number, b: Number) -> tuple[Number, Number]:
    """One number for all rows beside a number for each."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dim() != b.dim():
        return (a.unsqueeze(-1), b) if a.dim() < b.dim() else (a, b.unsqueeze(-1))
    return a, b


def is_one(c: Number) -> bool:
    return isinstance(c, float) and c == 1.0


def number(value: Any) -> Number:
    """A factor that is one number per copy and tick."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.shape[LEAD:].numel() > 1:
        raise NotAffine("a rate is a vector")
    return value.reshape(value.shape[:LEAD])


def rate(weight: Weight, value: Any) -> Number:
    """A factor of a form: a number, or one for every row, as [n, 1] has them."""
    n = weight.shape[0] if len(weight.shape) == 2 else 1
    if n > 1 and isinstance(value, Tensor) and value.shape[LEAD:] == (n, 1):
        weight.by_row = True
        return value.squeeze(-1)
    return number(value)


def _sum(weight: Weight, stream: Stream, args: list[Any], sign: float = 1.0) -> Any:
    a, b = args
    if any(isinstance(x, Answer) for x in args):
        return _sum_of_answers(weight, _answer(weight, a), _answer(weight, b), sign)
    if any(isinstance(x, Form) for x in args):
        a, b = (written(weight, x) for x in args)
        return Form(plus(a.terms, scaled(b.terms, sign)))
    if all(isinstance(x, Outer) for x in args) and a.shape == b.shape:
        return Outer((*a.pairs, *_outer_times(b, sign).pairs))
    raise NotAffine(f"`{stream.op}` of a weight and a number")


def _answer(weight: Weight, value: Any) -> Answer:
    """A known row as an answer."""
    if isinstance(value, Answer):
        return value
    if not isinstance(value, Tensor) or value.shape[LEAD:] != weight.shape[1:]:
        raise NotAffine("what the memory answers meets something of another shape")
    return Answer({}, value)


def _sum_of_answers(weight: Weight, a: Answer, b: Answer, sign: float) -> Answer:
    known = a.known
    if b.known is not None:
        other = b.known if sign == 1.0 else -b.known
        known = other if known is None else known + other
    return Answer(plus(a.terms, scaled(b.terms, sign)), known)


def _product(weight: Weight, stream: Stream, args: list[Any]) -> Any:
    symbolic = [a for a in args if isinstance(a, SYMBOLS)]
    if len(symbolic) > 1:
        raise NotAffine("it multiplies weights or gradients with each other")
    factor = next(a for a in args if a is not symbolic[0])
    return _times(weight, symbolic[0], factor)


def _quotient(weight: Weight, stream: Stream, args: list[Any]) -> Any:
    if isinstance(args[1], SYMBOLS):
        raise NotAffine("it divides by a weight or a gradient")
    return _times(weight, args[0], 1 / args[1])


def _times(weight: Weight, value: Any, factor: Any) -> Any:
    if isinstance(value, Form):
        columns = isinstance(factor, Tensor) and factor.shape[LEAD:] == weight.shape[1:] != (1,)
        return _by_column(weight, value, factor) if columns else Form(scaled(value.terms, rate(weight, factor)))
    if isinstance(value, Outer):
        return _outer_times(value, factor)
    c = number(factor)
    if isinstance(value, Key):
        return Key(times(value.factor, c))
    known = None if value.known is None else value.known * (c[..., None] if isinstance(c, Tensor) else c)
    return Answer(scaled(value.terms, c), known)


def _by_column(weight: Weight, form: Form, factor: Tensor) -> Form:
    """A rate for every column: only what is known can have one, as each column would have a system of its own."""
    terms: dict[str | int, Number] = {}
    for term, c in form.terms.items():
        w = weight.writes[term] if isinstance(term, int) else None
        if w is None or w.x is None or w.known is None or w.answers or w.band is not None:
            raise NotAffine("a rate is a vector")
        terms[weight.write(w.x, w.known * weight.columns(factor), {})] = c
    return Form(terms)


def _outer_times(value: Outer, factor: Any) -> Outer:
    rest = factor.shape[LEAD:] if isinstance(factor, Tensor) else ()
    if rest == (value.shape[0], 1):
        return Outer(tuple((x * factor.squeeze(-1), r) for x, r in value.pairs))
    c = factor if rest == value.shape[1:] else number(factor)
    c = c.unsqueeze(-1) if isinstance(c, Tensor) and c.dim() == LEAD else c
    return Outer(tuple((x, r * c) for x, r in value.pairs))


def _matmul(weight: Weight, stream: Stream, args: list[Any]) -> Answer:
    """rows @ w: what the memory says about them."""
    rows, form = args
    if not isinstance(form, Form) or isinstance(rows, Form | Answer | Outer) or len(weight.shape) != 2:
        raise NotAffine(f"`{stream.op}` of the weight")
    if isinstance(rows, Key):
        assert weight.key is not None
        return Answer({weight.read(weight.key, form): rows.factor})
    if rows.shape[LEAD:] != weight.shape[:1]:
        raise NotAffine(f"`{stream.op}` of the weight")
    return Answer({weight.read(weight.rows(rows), form): 1.0})


def _outer(weight: Weight, stream: Stream, args: list[Any]) -> Any:
    rows, r = args
    if not isinstance(rows, Key | Tensor) or isinstance(r, Form | Key | Outer):
        raise NotAffine(f"`{stream.op}` of the weight")
    factor = rows.factor if isinstance(rows, Key) else 1.0
    if isinstance(r, Tensor):
        return Outer(((plain(weight, rows), r),))
    x = weight.key if isinstance(rows, Key) else weight.rows(rows)
    known = None if r.known is None else weight.columns(r.known)
    return Form(scaled({weight.write(x, known, r.terms): 1.0}, factor))


# Of a weight, None where no argument is of one, a record and its arguments.
ROWS: dict[str, Callable[[Any, Stream, list[Any]], Any]] = {
    "add": _sum,
    "sub": lambda weight, stream, args: _sum(weight, stream, args, -1.0),
    "neg": lambda weight, stream, args: _times(weight, args[0], -1.0),
    "mul": _product,
    "div": _quotient,
    "matmul": _matmul,
    "outer": _outer,
}


def written(weight: Weight, value: Any) -> Form:
    """A value as a form: what is known is written as a whole, at every tick its own, if it is no product of rows."""
    if isinstance(value, Form):
        return value
    if isinstance(value, Outer) and value.shape == weight.shape:
        return Form({weight.write(weight.rows(x), weight.columns(r), {}): 1.0 for x, r in value.pairs})
    value = plain(weight, value)
    if not isinstance(value, Tensor) or value.dim() > LEAD + len(weight.shape):
        raise NotAffine("it gives no weight")
    batch, heads, ticks = weight.lead
    missing = LEAD + len(weight.shape) - value.dim()
    whole = value.reshape(*value.shape[:LEAD], *(1,) * missing, *value.shape[LEAD:]).to(weight.dtype)
    return Form({weight.write(None, whole.expand(batch, ticks, heads, *weight.shape), {}): 1.0})


def plain(weight: Weight, value: Any) -> Any:
    """What is known as the numbers that it is, [batch, ticks, heads, ...]."""
    if isinstance(value, Outer):
        return value.whole
    if not isinstance(value, Key):
        return value
    assert weight.key is not None
    rows = weight.key.transpose(1, 2)
    return rows if is_one(value.factor) else rows * value.factor[..., None]
