"""Ticks that are kept for the write, where gradients are taken at it: `over last` and `times` (rule 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import gradients, weighing
from nldsl.compiler.gradients import Gradient
from nldsl.compiler.masks import LEAD, Mask, factor, onto
from nldsl.compiler.nested import appended
from torch import Tensor

from nldsl.graph import Objective

if TYPE_CHECKING:
    from nldsl.compiler.piece import Frame, Piece


def needed(record: Objective) -> bool:
    """Whether gradients are taken at the write, from the ticks themselves."""
    return bool(record.over) or record.times > 1


def with_ticks(piece: Piece, record: Objective, before: Frame | None, masks: Mapping[str, Mask]) -> Frame:
    """The kept ticks with those of this piece, as far as a window reaches back."""
    rows = all_ticks(piece, record, before, masks)
    return last(rows, record.over) if record.over else rows


def all_ticks(piece: Piece, record: Objective, before: Frame | None, masks: Mapping[str, Mask]) -> Frame:
    """The kept ticks with those of this piece: what their objectives read, which copies count, their factors."""
    now: Frame = {
        "captured": {
            f"{i}": {n: _written(piece, x) for n, x in given.items()}
            for i, given in enumerate(gradients.captured(piece, record))
        },
        "active": {m: _marks(piece, mask, piece.facts.memories[m].heads) for m, mask in masks.items()},
        "weights": {f"{i}": _written(piece, w) for i, w in enumerate(weighing.factors(piece, record))},
        "weight": _written(piece, weighing.number(piece, record.over_weight)),
    }
    return appended(before, now) if before else now


def _written(piece: Piece, x: Tensor) -> Tensor:
    return x.expand(piece.batch, piece.ticks, *x.shape[2:])


def _marks(piece: Piece, mask: Mask, heads: int) -> Tensor:
    return marks_of(piece, mask).expand(piece.batch, piece.ticks, max(1, heads))


def marks_of(piece: Piece, mask: Mask) -> Tensor:
    if isinstance(mask, Tensor):
        return mask
    return torch.full((1,) * LEAD, mask, device=piece.clock.device)


def last(rows: Any, count: int) -> Any:
    """The last ticks of kept ones."""
    return {n: last(v, count) for n, v in rows.items()} if isinstance(rows, dict) else rows[:, -count:]


def left(rows: Frame, due: Mapping[str, Mask]) -> Frame | None:
    """The kept ticks without those that were written."""
    if all(mask is True for mask in due.values()):
        return None
    marks = {m: x if due[m] is False else x & ~_tensor_like(due[m], x) for m, x in rows["active"].items()}
    return rows | {"active": marks}


def _tensor_like(mask: Mask, like: Tensor) -> Tensor:
    return mask if isinstance(mask, Tensor) else torch.full_like(like[:1, :1, :1], mask)


def gradient(piece: Piece, record: Objective, rows: Frame) -> Gradient:
    """The gradient of the kept ticks at the weights as they are now."""
    ticks = rows["weight"].shape[1]
    streams = [rows["captured"][f"{i}"] for i in range(len(record.bodies))]
    weights = [rows["weights"][f"{i}"] for i in range(len(record.weights))]
    if not record.over:
        return weighing.weighed(
            piece, record, streams, ticks, {"active": rows["active"], "weights": weights}, each=False
        )
    weight = rows["weight"]
    if weight.dim() > LEAD:  # today's, by age
        weight = weight[:, -1, :, :ticks].flip(-1).transpose(1, 2)
    scale = [weight * factor(rows["active"][record.memories[i]], weight) for i in range(len(record.bodies))]
    found = gradients.gradient(piece, record, streams, ticks, scale)
    if not weights:
        return found
    whole = {}
    for name, g in found.whole.items():
        i = next(i for i, m in enumerate(record.memories) if name.startswith(f"{m}."))
        whole[name] = g * onto(weights[i][:, -1:], g.dim())
    return Gradient(whole, {}, found.keys)
