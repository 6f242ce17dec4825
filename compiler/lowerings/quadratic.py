"""An objective that is quadratic in what a weight answers: its gradient is affine in the answers.

The objective's body is run on parts: which answers are in it, with which numbers, in the first and in the second
degree. The rows of one table say what each primitive makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nldsl.compiler.affine import NotAffine, Number, number, plus, scaled, times

from nldsl.graph import Stream


@dataclass(frozen=True)
class Part:
    """first: sum of number * answer, plus something known, channel by channel; None where every channel has numbers of
    its own. second: number * answer * answer, by their two names."""

    first: Mapping[str, Number] | None
    second: Mapping[tuple[str, str], Number] = field(default_factory=dict)


def _sum(stream: Stream, args: list[Any], sign: float = 1.0) -> Part:
    a, b = (x if isinstance(x, Part) else Part({}) for x in args)
    first = None if a.first is None or b.first is None else plus(a.first, scaled(b.first, sign))
    return Part(first, plus(a.second, scaled(b.second, sign)))


def _product(stream: Stream, args: list[Any]) -> Part:
    a, b = args
    if isinstance(a, Part) and isinstance(b, Part):
        if a.first is None or b.first is None or a.second or b.second:
            raise NotAffine("its objective is not quadratic in what the memory answers")
        return Part(None, {(i, j): times(x, y) for i, x in a.first.items() for j, y in b.first.items()})
    part, factor = (a, b) if isinstance(a, Part) else (b, a)
    try:
        c = number(factor)
    except NotAffine:
        if part.second:
            raise NotAffine("its objective has a rate for every channel") from None
        return Part(None)
    return Part(None if part.first is None else scaled(part.first, c), scaled(part.second, c))


def _quotient(stream: Stream, args: list[Any]) -> Part:
    if isinstance(args[1], Part):
        raise NotAffine("its objective divides by what the memory answers")
    return _product(stream, [args[0], 1 / args[1]])


def _power(stream: Stream, args: list[Any]) -> Part:
    if args[1] != 2:
        raise NotAffine("its objective is not quadratic in what the memory answers")
    return _product(stream, [args[0], args[0]])


def _total(stream: Stream, args: list[Any]) -> Part:
    return Part(None, args[0].second)


ROWS: dict[str, Callable[[Stream, list[Any]], Part]] = {
    "add": _sum,
    "sub": lambda stream, args: _sum(stream, args, -1.0),
    "neg": lambda stream, args: _product(stream, [args[0], -1.0]),
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "sum": _total,
}


def made(stream: Stream, args: list[Any]) -> Part:
    """What a primitive makes of parts. Raises NotAffine."""
    if stream.op not in ROWS:
        raise NotAffine(f"its objective takes `{stream.op}` of what the memory answers")
    return ROWS[stream.op](stream, args)


def slope(part: Part, own: str) -> dict[str, Number]:
    """The numbers with which the answers are in the gradient with respect to the answer `own`."""
    found: dict[str, Number] = {}
    for (i, j), c in part.second.items():
        for one, other in ((i, j), (j, i)):
            if one == own:
                found = plus(found, {other: c})
    return found
