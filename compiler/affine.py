"""What a rule makes of the old weight and the gradient, where that is a sum of both with one number per copy and tick.

A rule's body is run on forms instead of tensors: sums of the weight w, of what it says about its key (key key^T w), and
of the gradient g, each with a coefficient. The rows of one table say what each primitive makes of forms; what has no
row is not affine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import forms
from torch import Tensor

from nldsl.graph import Body, Stream
from nldsl.torch_forms import Call


@dataclass(frozen=True)
class Form:
    """sum of coefficient * term, terms "w", "erased" (key key^T w) and "g". seen: times the key from the left already
    (key^T of the sum)."""

    terms: Mapping[str, Any]
    seen: bool = False


class NotAffine(Exception):
    """The rule is no such sum; the message says where."""


Value = Any  # a Form, a number or a Tensor [batch, ticks, heads] or of the key's shape


def scaled(form: Form, factor: Value) -> Form:
    return Form({n: c * factor for n, c in form.terms.items()}, form.seen)


def added(a: Form, b: Form, sign: int = 1) -> Form:
    if a.seen or b.seen:
        raise NotAffine("it adds what the memory says about its key")
    terms = dict(a.terms)
    for name, c in b.terms.items():
        terms[name] = terms[name] + sign * c if name in terms else sign * c
    return Form(terms)


def _add(stream: Stream, args: list[Value], sign: int = 1) -> Form:
    a, b = args
    if not (isinstance(a, Form) and isinstance(b, Form)):
        raise NotAffine("it adds a number to a weight")
    return added(a, b, sign)


def _mul(stream: Stream, args: list[Value]) -> Form:
    a, b = args
    if isinstance(a, Form) and isinstance(b, Form):
        raise NotAffine("it multiplies weights or gradients with each other")
    form, factor = (a, b) if isinstance(a, Form) else (b, a)
    return scaled(form, _scalar(factor))


def _div(stream: Stream, args: list[Value]) -> Form:
    if isinstance(args[1], Form):
        raise NotAffine("it divides by a weight or a gradient")
    return scaled(args[0], 1 / _scalar(args[1]))


def _scalar(value: Value) -> Value:
    if isinstance(value, Tensor) and value.dim() > 3 and value.shape[3:].numel() > 1:
        raise NotAffine("a rate is a vector")
    return value.reshape(value.shape[:3]) if isinstance(value, Tensor) else value


def _matmul(stream: Stream, args: list[Value]) -> Form:
    """key @ w: what the memory says about its key."""
    key, form = args
    if not (isinstance(key, Key) and isinstance(form, Form)) or set(form.terms) - {"w"} or form.seen:
        raise NotAffine(f"`{stream.op}` of the weight")
    return Form(form.terms, seen=True)


def _outer(stream: Stream, args: list[Value]) -> Form:
    key, form = args
    if not (isinstance(key, Key) and isinstance(form, Form) and form.seen):
        raise NotAffine(f"`{stream.op}` of the weight")
    return Form({"erased": form.terms["w"]})


class Key:
    """The key itself, as long as nothing was done with it."""


ROWS: dict[str, Callable[[Stream, list[Value]], Form]] = {
    "add": _add,
    "sub": lambda stream, args: _add(stream, args, -1),
    "neg": lambda stream, args: scaled(args[0], -1),
    "mul": _mul,
    "div": _div,
    "matmul": _matmul,
    "outer": _outer,
}


def form_of(body: Body, inputs: Mapping[str, Value], key: Tensor | None, calls: Mapping[str, Call]) -> Form:
    """What a rule's body makes of forms. inputs: of its ports. key: what `Key` stands for, in all other uses.
    Raises NotAffine."""
    values: dict[str, Value] = dict(inputs)
    for record in body.records:
        if not isinstance(record, Stream) or record.op in ("tick", "weight") or record.op.startswith("window_"):
            raise NotAffine("it keeps something from update to update")
        args = [values[a] if isinstance(a, str) else float(a) for a in record.args]
        if any(isinstance(a, Form) for a in args):
            if record.op not in ROWS:
                raise NotAffine(f"`{record.op}` of the weight or the gradient")
            values[record.id] = ROWS[record.op](record, args)
        else:
            args = [key if isinstance(a, Key) else a for a in args]
            values[record.id] = forms.apply(record, args, calls[record.id])
    result = values[body.results[0]]
    if not isinstance(result, Form) or result.seen:
        raise NotAffine("it gives no weight")
    return result


def unit() -> Tensor:
    """The coefficient 1."""
    return torch.ones(1, 1, 1)
