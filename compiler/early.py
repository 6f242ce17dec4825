"""The part of a chunk's body that needs no state, for all chunks of a loop at once (see `bodies/hoisting.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.bodies.adjoint import laid
from nldsl.compiler.bodies.hoisting import Hoisted
from nldsl.compiler.chunks import Cut
from nldsl.compiler.nested import counted, flattened
from nldsl.compiler.piece import clock_of
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.compiler.asked import Asked
    from nldsl.compiler.steps import Step

Inputs = dict[int, tuple[Tensor, int | None]]  # by place: all chunks, and along which axis they lie


def stateless(form: Any) -> list[int]:
    """The places of a body's inputs that are not part of the state."""
    given = dict(form[1:])
    values, frame = counted(given["values"]), counted(given["frame"])
    return [i for i in range(counted(form)) if not values <= i < values + frame]


def results(body: Step, tensors: Sequence[Tensor], cut: Cut | None, exactly: bool) -> list[Tensor]:
    """What the early part of a body gives of these inputs, laid out as the rest of it was traced with. exactly: see
    `laid`."""
    if body.hoisted is None:
        return []
    known = cut.cuts.early.get(id(body), {}).get(cut.index) if cut is not None else None
    if known is None:
        assert body.early is not None
        known = _laid(body.hoisted, body.early([tensors[i] for i in body.hoisted.places], False), exactly)
    return known


def foreseen(body: Step, asked: Asked, exactly: bool) -> None:
    """Find the early results of this chunk and all that follow it, at once, where that can be done."""
    piece, hoisted = asked.piece, body.hoisted
    if hoisted is None or not isinstance(piece.values, Cut) or not isinstance(piece.number, int):
        return
    cuts, index = piece.values.cuts, piece.values.index
    known = cuts.early.setdefault(id(body), {})
    left = cuts.first + cuts.even - index
    if index in known or index < cuts.first or left < 2 or not body.steady:
        return
    if len({asked.needs.phase(piece.number + i * piece.ticks) for i in range(left)}) > 1:
        return
    inputs = _inputs(asked, left)
    assert body.mapped is not None
    chunks = body.mapped([inputs[i][0] for i in hoisted.places], [inputs[i][1] for i in hoisted.places])
    if any(a is not b for a, b in zip(chunks[0], _laid(hoisted, chunks[0], exactly), strict=True)):
        chunks = [_laid(hoisted, chunk, exactly) for chunk in chunks]
    known.update(enumerate(chunks, index))


def _laid(hoisted: Hoisted, found: Sequence[Tensor], exactly: bool) -> list[Tensor]:
    return [laid(x, stride, exactly) for x, stride in zip(found, hoisted.strides, strict=True)]


def _inputs(asked: Asked, count: int) -> Inputs:
    """A body's inputs without state, for `count` chunks from this one on."""
    piece = asked.piece
    assert isinstance(piece.values, Cut) and isinstance(piece.number, int)
    given, cuts, index = dict(asked.form[1:]), piece.values.cuts, piece.values.index
    inputs: Inputs = {}
    for name in (n for n in asked.needs.values if n in piece.values):
        if name in cuts.whole:
            inputs[len(inputs)] = cuts.whole[name][:, -count:], 1
            continue
        chunks: list[list[Tensor]] = [[] for _ in range(count)]
        for i, tensors in enumerate(chunks):
            flattened(cuts.part(name, index + i), tensors)
        for same in zip(*chunks, strict=True):
            one = all(x is same[0] for x in same)
            inputs[len(inputs)] = (same[0], None) if one else (torch.stack(same), 0)
    place = len(inputs) + counted(given["frame"])
    for x in asked.tensors[place:-1]:
        inputs[place] = x, None
        place += 1
    clock = clock_of(piece.number, count * piece.ticks, piece.clock.device)
    inputs[place] = clock.reshape(1, count, piece.ticks, 1), 1
    return inputs
