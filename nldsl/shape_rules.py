"""Shapes per tick and per head: their names, and the rule of every primitive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Shape = tuple[int, ...]


class Dim(int):
    """A size that remembers what the text calls it: `4 * d = 64`."""

    name: object  # its `str` is what the text calls it, made when a message needs it

    def __new__(cls, value: int, name: object = "") -> Dim:
        size = super().__new__(cls, value)
        size.name = name or getattr(value, "name", "")
        return size


def show_shape(shape: Sequence[int]) -> str:
    """`[dim = 32, 4]`: sizes with the names the text gives them."""
    named = (f"{n} = {int(d)}" if (n := str(getattr(d, "name", ""))) else str(int(d)) for d in shape)
    return "[" + ", ".join(named) + "]"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 head`, `2 heads`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


class ShapeError(Exception):
    """Two shapes that do not fit; the text says how."""

    code = "NL301"


class NotAMatrix(ShapeError):
    """Something else where only a matrix will do."""

    code = "NL305"


def broadcast(*shapes: Shape) -> Shape:
    differing = [s for s in shapes if s]
    if all(s is differing[0] for s in differing):  # numbers aside, all of one shape
        return differing[0] if differing else ()
    result: list[int] = []
    for axis in range(-max(map(len, shapes)), 0):
        sizes = [s[axis] for s in shapes if len(s) >= -axis]
        wide = [d for d in sizes if d != 1]
        if any(d != wide[0] for d in wide):
            raise ShapeError(" and ".join(map(show_shape, shapes)) + f" do not line up: {wide[0]} is not {wide[-1]}")
        result.append(next((d for d in wide if getattr(d, "name", "")), wide[0]) if wide else sizes[0])
    return tuple(result)


def matmul(a: Shape, b: Shape) -> Shape:
    if not a or not b or len(a) > 2 or len(b) > 2:
        raise ShapeError(f"`@` multiplies vectors and matrices, not {show_shape(a)} by {show_shape(b)}")
    if a[-1] != b[0]:
        raise ShapeError(f"{show_shape(a)} @ {show_shape(b)}: {int(a[-1])} columns meet {int(b[0])} rows")
    return a[:-1] + b[1:]


def axis_of(shape: Shape, axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"{show_shape(shape)} has no axis {axis}")
    return axis % len(shape)


def reduce(x: Shape, axis: int | None) -> Shape:
    return () if axis is None else tuple(d for i, d in enumerate(x) if i != axis_of(x, axis))


def along(x: Shape, axis: int) -> Shape:
    axis_of(x, axis)
    return x


def outer(a: Shape, b: Shape) -> Shape:
    if len(a) != 1 or len(b) != 1:
        raise ShapeError(f"`outer` takes two vectors, not {show_shape(a)} and {show_shape(b)}")
    return a + b


def matrix(x: Shape) -> Shape:
    if len(x) != 2:
        raise NotAMatrix(f"a matrix is needed here, and {show_shape(x)} has {plural(len(x), 'axis', 'axes')}")
    return x


def concat(*shapes: Shape) -> Shape:
    if any(not s or s[:-1] != shapes[0][:-1] for s in shapes):
        raise ShapeError(" and ".join(map(show_shape, shapes)) + " can't be joined along their last axis")
    return (*shapes[0][:-1], sum(int(s[-1]) for s in shapes))


def slice(x: Shape, start: int, stop: int) -> Shape:
    if not x or not 0 <= start < stop <= x[-1]:
        raise ShapeError(f"the last axis of {show_shape(x)} has no piece from {start} to {stop}")
    return (*x[:-1], stop - start)


def reshape(x: Shape, shape: Shape) -> Shape:
    if math.prod(x) != math.prod(shape):
        raise ShapeError(f"{show_shape(x)} has {math.prod(x)} entries and {show_shape(shape)} {math.prod(shape)}")
    return shape


def split(x: Shape, heads: int) -> Shape:
    if not x or heads < 1 or x[-1] % heads:
        raise ShapeError(f"the last axis of {show_shape(x)} can't be split into {heads} equal heads")
    return (*x[:-1], x[-1] // heads)


def merge(x: Shape, heads: int) -> Shape:
    if not x:
        raise ShapeError("`merge` joins vectors; a number per head has no axis to join along")
    return (*x[:-1], x[-1] * heads)


def take(table: Shape, ids: Shape) -> Shape:
    if len(table) != 2 or ids:
        raise ShapeError(f"`take` needs a table [n, d] and one index, not {show_shape(table)} and {show_shape(ids)}")
    return table[1:]


def entropy(logits: Shape, ids: Shape) -> Shape:
    if len(logits) != 1 or ids:
        raise ShapeError(f"`cross_entropy` needs logits [n] and one index, not {show_shape(logits)}, {show_shape(ids)}")
    return ()


def conv(x: Shape, kernel: Shape) -> Shape:
    if len(x) != 1 or len(kernel) != 2 or x != kernel[1:]:
        raise ShapeError(
            f"`causal_conv` needs x [d] and a kernel [width, d], not {show_shape(x)}, {show_shape(kernel)}"
        )
    return x


def rope(x: Shape, position: Shape, base: Any) -> Shape:
    if len(x) != 1 or x[0] % 2 or position:
        raise ShapeError(f"`rope` turns pairs: it needs an even vector and one position, not {show_shape(x)}")
    return x
