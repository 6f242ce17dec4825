"""What a rule makes of a weight, where that is a sum with one number per copy and tick for every term.

A rule's body is run on forms instead of tensors: sums of what the weight and the rule's own states were before a tick,
and of what was written since. The rows of one table say what each primitive makes of forms; what has no row is not
affine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import forms
from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Body, Memory, Stream
from nldsl.torch_forms import Call

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.weight import Weight

Number = Any  # a coefficient: a number, or a Tensor [batch, ticks, heads] where it has any of them


@dataclass(frozen=True)
class Form:
    """sum of coefficient * term; a term is one of the weight's states before the tick, by name, or what was written
    to it since, by number."""

    terms: Mapping[str | int, Number]


@dataclass(frozen=True)
class Answer:
    """sum of coefficient * what the weight says about some rows, by number of that reading."""

    terms: Mapping[int, Number]


@dataclass(frozen=True)
class Key:
    """A multiple of the key."""

    factor: Number = 1.0


@dataclass(frozen=True)
class Updates:
    """The updates of a chunk. count: the number of each tick's, [batch or 1, ticks, heads or 1]. first: that of the
    first tick, right in so far as it decides which states begin anew."""

    count: Tensor
    first: int


class NotAffine(Exception):
    """It is no such sum; the message says where."""


def scaled(terms: Mapping[Any, Number], factor: Number) -> dict[Any, Number]:
    return {n: times(c, factor) for n, c in terms.items()}


def times(a: Number, b: Number) -> Number:
    """a * b; 0 and 1 stay numbers, so that what is not there costs nothing."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float | int) and one in (0, 1):
            return other if one else 0.0
    return a * b


def plus(a: Mapping[Any, Number], b: Mapping[Any, Number]) -> dict[Any, Number]:
    return {**a, **{n: a[n] + c if n in a else c for n, c in b.items()}}


def number(value: Any) -> Number:
    """A factor that is one number per copy and tick."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.shape[LEAD:].numel() > 1:
        raise NotAffine("a rate is a vector")
    return value.reshape(value.shape[:LEAD])


def _sum(weight: Weight, stream: Stream, args: list[Any], sign: float = 1.0) -> Any:
    a, b = args
    for kind in (Form, Answer):
        if isinstance(a, kind) and isinstance(b, kind):
            return kind(plus(a.terms, scaled(b.terms, sign)))
    if all(isinstance(x, Form) or (isinstance(x, Tensor) and x.dim() == LEAD + len(weight.shape)) for x in args):
        a, b = (written(weight, x) for x in args)
        return Form(plus(a.terms, scaled(b.terms, sign)))
    raise NotAffine(f"`{stream.op}` of a weight and a number")


def _product(weight: Weight, stream: Stream, args: list[Any]) -> Any:
    symbolic = [a for a in args if isinstance(a, Form | Answer | Key)]
    if len(symbolic) > 1:
        raise NotAffine("it multiplies weights or gradients with each other")
    factor = next(a for a in args if a is not symbolic[0])
    return _times(symbolic[0], number(factor))


def _quotient(weight: Weight, stream: Stream, args: list[Any]) -> Any:
    if isinstance(args[1], Form | Answer | Key):
        raise NotAffine("it divides by a weight or a gradient")
    return _times(args[0], 1 / number(args[1]))


def _times(value: Any, factor: Number) -> Any:
    if isinstance(value, Key):
        return Key(times(value.factor, factor))
    return type(value)(scaled(value.terms, factor))


def _matmul(weight: Weight, stream: Stream, args: list[Any]) -> Answer:
    """key @ w: what the memory says about its key."""
    key, form = args
    if not (isinstance(key, Key) and isinstance(form, Form)):
        raise NotAffine(f"`{stream.op}` of the weight")
    assert weight.key is not None
    return Answer(scaled({weight.read(weight.key, form): 1.0}, key.factor))


def _outer(weight: Weight, stream: Stream, args: list[Any]) -> Form:
    key, answer = args
    if not (isinstance(key, Key) and isinstance(answer, Answer)):
        raise NotAffine(f"`{stream.op}` of the weight")
    return Form(scaled({weight.write(weight.key, None, answer.terms): 1.0}, key.factor))


ROWS: dict[str, Callable[[Weight, Stream, list[Any]], Any]] = {
    "add": _sum,
    "sub": lambda weight, stream, args: _sum(weight, stream, args, -1.0),
    "neg": lambda weight, stream, args: _times(args[0], -1.0),
    "mul": _product,
    "div": _quotient,
    "matmul": _matmul,
    "outer": _outer,
}


def applied(
    weight: Weight, body: Body, inputs: Mapping[str, Any], slot: str, updates: Updates, calls: Mapping[str, Call]
) -> Form:
    """What a rule's body makes of forms. inputs: of its ports. slot: whose states these are. Raises NotAffine."""
    values: dict[str, Any] = dict(inputs)
    for record in body.records:
        if isinstance(record, Memory):
            _open(weight, record, slot, updates)
        elif not isinstance(record, Stream) or record.op.startswith("window_") or record.every > 1:
            raise NotAffine("it keeps something from update to update that is no sum")
        elif record.op == "weight":
            values[record.id] = weight.now[f"{slot}.{record.memory}"]
        elif record.op == "assign":
            new = values[str(record.args[0])] if isinstance(record.args[0], str) else None
            weight.now[f"{slot}.{record.memory}"] = written(weight, new)
        elif record.op == "tick":
            values[record.id] = updates.count.double()
        else:
            values[record.id] = _value(weight, record, values, calls)
    return written(weight, values[body.results[0]])


def _open(weight: Weight, memory: Memory, slot: str, updates: Updates) -> None:
    """A state of the rule. Where it begins anew, nothing of the old one is left."""
    plain = memory.form == "state" and not memory.starts and not memory.reset_when
    if not plain or memory.leaves[0].init != ("constant", 0) or tuple(memory.leaves[0].shape) != weight.shape:
        raise NotAffine("it keeps something from update to update that is no sum")
    name, every = f"{slot}.{memory.id}", memory.reset_every
    weight.keep(name)
    if not every:
        return
    if updates.first % every == 0:
        weight.anew.add(name)
    if (updates.first + weight.lead[2]) % every == 0:
        weight.left.add(name)
    inside = [float((updates.first + t) % every != 0) for t in range(1, weight.lead[2])]
    if not all(inside):
        factor = torch.tensor([1.0, *inside], dtype=weight.dtype, device=weight.device).reshape(1, -1, 1)
        weight.now[name] = Form(scaled(weight.now[name].terms, factor))


def _value(weight: Weight, record: Stream, values: Mapping[str, Any], calls: Mapping[str, Call]) -> Any:
    args = [values[a] if isinstance(a, str) else float(a) for a in record.args]
    if any(isinstance(a, Form | Answer) for a in args) or (
        any(isinstance(a, Key) for a in args) and record.op in ("mul", "div", "neg")
    ):
        try:
            if record.op not in ROWS:
                raise NotAffine(f"`{record.op}` of the weight or the gradient")
            return ROWS[record.op](weight, record, args)
        except NotAffine as reason:
            args = _known(weight, args, reason)
    plain = [_plain(weight, a) for a in args]
    return forms.apply(record, plain, calls[record.id])


def _known(weight: Weight, args: list[Any], reason: NotAffine) -> list[Any]:
    """The same arguments as numbers, tick by tick, where they are known already: what is no sum of gradients may still
    be a map of one (scan, map, scan)."""
    if any(isinstance(a, Answer) for a in args):
        raise reason
    try:
        return [weight.already(a) if isinstance(a, Form) else a for a in args]
    except NotAffine:
        raise reason from None


def written(weight: Weight, value: Any) -> Form:
    """A value as a form: what is known is written as a whole, at every tick its own."""
    if isinstance(value, Form):
        return value
    if not isinstance(value, Tensor):
        raise NotAffine("it gives no weight")
    batch, heads, ticks = weight.lead
    missing = LEAD + len(weight.shape) - value.dim()
    whole = value.reshape(*value.shape[:LEAD], *(1,) * missing, *value.shape[LEAD:]).to(weight.dtype)
    return Form({weight.write(None, whole.expand(batch, ticks, heads, *weight.shape), {}): 1.0})


def _plain(weight: Weight, value: Any) -> Any:
    """A multiple of the key as the numbers that it is, [batch, ticks, heads, n]."""
    if not isinstance(value, Key):
        return value
    assert weight.key is not None
    rows = weight.key.transpose(1, 2)
    return rows if isinstance(value.factor, float) and value.factor == 1.0 else rows * value.factor[..., None]
