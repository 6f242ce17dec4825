"""What is kept of a stream from tick to tick: the tail of a convolution, the open window of an aggregate (rule 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.convolution import Convolution
from nldsl.compiler.masks import LEAD, Clock, Mask, choose, ends, factor, head, spread
from torch import Tensor

from nldsl.graph import Memory, Stream

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece


def convolve(piece: Piece, stream: Stream, x: Tensor, kernel: Tensor) -> Tensor:
    """Each channel mixed with its own last `width` ticks; zeros before the start."""
    width = kernel.shape[-2]
    x = x.expand(piece.batch, piece.ticks, *x.shape[2:])
    kept = piece.frame.get(stream.id)
    past = kept["past"] if kept else x.new_zeros(piece.batch, width - 1, *x.shape[2:])
    row = torch.cat([past, x], dim=1)
    past = row[:, row.shape[1] - width + 1 :]
    piece.frame[stream.id] = {"past": past if piece.ticks == 1 else past.clone()}  # a view would keep the whole row
    if torch.compiler.is_compiling():  # a compiler makes one loop of the sum, and caches no operation of ours
        return Convolution.forward(row, kernel)
    return Convolution.apply(row, kernel)  # type: ignore[no-any-return, no-untyped-call]


def gather(piece: Piece, stream: Stream, x: Tensor, when: Tensor | None = None) -> Tensor:
    """Sum, mean or last over the windows, so far: what it says at the last tick of a window is the aggregate."""
    served = piece.facts.memories.get(stream.attr("serves", ""))
    heads = max(1, served.heads if served else 1, x.shape[2])
    x = x.expand(piece.batch, x.shape[1], heads, *x.shape[LEAD:])
    restarts = served is not None and (served.reset_every or served.reset_when)
    if piece.ticks > 1 and when is None and not restarts:
        return _many(piece, stream, x.expand(-1, piece.ticks, *x.shape[2:]))
    rows = []
    for i in range(piece.ticks):
        now = slice(i, i + 1)
        rows.append(_one(piece, stream, head(x, now), None if when is None else head(when, now), piece.number + i))
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def _begun(piece: Piece, stream: Stream, number: Clock) -> Clock:
    served = piece.facts.memories.get(stream.attr("serves", ""))
    if served is None or stream.attr("aligned"):
        return 0
    if served.reset_when:
        return piece.frame[served.id]["begun"]  # type: ignore[no-any-return]
    return number - number % served.reset_every if served.reset_every else 0


def _one(piece: Piece, stream: Stream, x: Tensor, when: Tensor | None, number: Clock) -> Tensor:
    counts: Mask = True if when is None else when
    lead = x.shape[:LEAD]
    kept: dict[str, Any] = piece.frame.get(stream.id) or {
        "total": torch.zeros_like(x),
        "count": torch.zeros(lead, dtype=x.dtype, device=x.device),
    }
    if stream.op == "window_last":
        total = choose(counts, x, kept["total"])
    else:
        total = kept["total"] + (x if when is None else x * spread(when, x.dim()))
    count = kept["count"] + factor(counts, x)
    value = total
    if stream.op == "window_mean":
        value = total / spread(count.clamp(min=1), x.dim())
    due = ends(number, _begun(piece, stream, number), stream.every)
    piece.frame[stream.id] = {
        "total": choose(due, torch.zeros_like(total), total),
        "count": choose(due, torch.zeros_like(count), count),
    }
    return value


def _many(piece: Piece, stream: Stream, x: Tensor) -> Tensor:
    """All ticks at once, where windows begin at multiples of their length."""
    assert isinstance(piece.number, int)
    every, ticks, phase = stream.every, piece.ticks, piece.number % stream.every
    count = ((piece.clock % every) + 1).to(x.dtype).expand(piece.batch, ticks, x.shape[2])
    if stream.op == "window_last":
        total = x
    else:
        kept = piece.frame.get(stream.id)
        first = torch.cat([kept["total"] + x[:, :1], x[:, 1:]], dim=1) if kept else x
        before, after = phase, -(phase + ticks) % every
        padded = torch.cat([x.new_zeros(x.shape[0], before, *x.shape[2:]), first,
                            x.new_zeros(x.shape[0], after, *x.shape[2:])], dim=1)  # fmt: skip
        windows = padded.reshape(x.shape[0], -1, every, *x.shape[2:]).cumsum(2)
        total = windows.reshape(x.shape[0], -1, *x.shape[2:])[:, before : before + ticks]
    due = (phase + ticks) % every == 0
    last, number = total[:, -1:], count[:, -1:]
    piece.frame[stream.id] = {
        "total": torch.zeros_like(last) if due else last,
        "count": torch.zeros_like(number) if due else number,
    }
    return total / spread(count, x.dim()) if stream.op == "window_mean" else total


def restarted(piece: Piece, memory: Memory, where: Mask) -> None:
    """The windows that serve these copies are empty again."""
    for stream in piece.facts.gatherers:
        if stream.attr("serves") == memory.id and stream.id in piece.frame:
            kept = piece.frame[stream.id]
            piece.frame[stream.id] = {n: choose(where, torch.zeros_like(v), v) for n, v in kept.items()}
