"""The part of a chunk's body that needs no state, for all chunks of a loop at once (see `bodies/hoisting.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.bodies.hoisting import Hoisted
from nldsl.compiler.chunks import Cut
from nldsl.compiler.needs import phase
from nldsl.compiler.nested import counted, flattened
from nldsl.compiler.piece import clock_of
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.compiler.steps import Asked, Step

SHARE = 0.5  # of the budget of a loop, for results that are kept for all chunks at once
Inputs = dict[int, tuple[Tensor, int | None]]  # by place: all chunks, and along which axis they lie


def stateless(form: Any) -> list[int]:
    """The places of a body's inputs that are not part of the state."""
    given = dict(form[1:])
    values, frame = counted(given["values"]), counted(given["frame"])
    return [i for i in range(counted(form)) if not values <= i < values + frame]


def results(body: Step, hoisted: Hoisted, asked: Asked, stretched: bool) -> list[Tensor]:
    """What the early part of a body gives, found at the first chunk that needs it for all that follow. stretched: this
    may be done again, so that what is not there now must not be there then."""
    known = _known(body, hoisted, asked, stretched)
    if known is None:
        assert body.early is not None
        known = body.early([asked.tensors[i] for i in hoisted.places], stretched)
    return known


def _known(body: Step, hoisted: Hoisted, asked: Asked, stretched: bool) -> list[Tensor] | None:
    """The early results of a chunk, where they are found together with those of others."""
    piece = asked.piece
    if not isinstance(piece.values, Cut) or not isinstance(piece.number, int):
        return None
    cuts, index = piece.values.cuts, piece.values.index
    known = cuts.early.setdefault(id(body), {})
    left = cuts.first + cuts.even - index
    if index in known or index < cuts.first or left < 2 or stretched or not body.steady:
        return known.get(index)
    if piece.machine.budget and left * hoisted.bytes > piece.machine.budget * SHARE:
        return None
    numbers = [piece.number + i * piece.ticks for i in range(left)]
    if len({phase(asked.nodes, asked.needs.memories, piece, n) for n in numbers}) > 1:
        return None
    inputs = _inputs(asked, left)
    assert body.mapped is not None
    chunks = body.mapped([inputs[i][0] for i in hoisted.places], [inputs[i][1] for i in hoisted.places])
    known.update(enumerate(chunks, index))
    return known[index]


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
