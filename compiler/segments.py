"""Segments of a text, for what learns from the model's own loss on a token clock (rule 12).

A segment is as long as the shortest such period. Until its last target is known, the state keeps the frame that it
began with and what its ticks were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nldsl.compiler.nested import appended
from nldsl.compiler.piece import Frame, Piece, written_out
from torch import Tensor

from nldsl.graph import LevelGraph, Objective

Segment = dict[str, Any]


def loss_learns(graph: LevelGraph) -> tuple[Objective, ...]:
    return tuple(o for o in graph.objectives if o.kind == "loss" and o.every.unit == "token")


def segment_length(graph: LevelGraph) -> int:
    """The shortest period of a token-clock learn from the loss, 0 if there is none."""
    return min((o.every.count for o in loss_learns(graph)), default=0)


def reach(graph: LevelGraph) -> int:
    """How many segments back a gradient of the loss may reach."""
    length = segment_length(graph)
    return max((-(-o.through // length) for o in loss_learns(graph)), default=1) or 1


def opened(before: Sequence[Segment], frame: Frame, graph: LevelGraph) -> list[Segment]:
    """Begin a segment, forgetting those that no gradient reaches."""
    return [*before, {"frame": frame, "notes": {}}][-reach(graph) :]


def noted(segment: Segment, piece: Piece, now: Mapping[str, Tensor]) -> Segment:
    """A segment with the ticks of one more piece: their inputs, what was data, what its learns need at its end."""
    graph, batch, ticks = piece.machine.graph, piece.batch, piece.ticks
    data = {s.id: piece.values[s.id] for s in graph.streams.values() if s.op == "data" and not s.lag}
    more = {"inputs": dict(now)} | (
        {"data": {n: written_out(x, batch, ticks) for n, x in data.items()}} if data else {}
    )
    notes = dict(segment["notes"])
    for learn in loss_learns(graph):
        said: dict[str, Any] = {}
        if learn.when:
            said["active"] = {m: written_out(x, batch, ticks) for m, x in piece.values[f"active {learn.id}"].items()}
        if learn.weights:
            weights = piece.values[f"weights {learn.id}"]
            said["weights"] = {f"{i}": written_out(w, batch, ticks) for i, w in enumerate(weights)}
        said = _appended(notes.get(learn.id, {}), said)
        rates = {n: written_out(x[:, -1:], batch, 1) for n, x in piece.values[f"rates {learn.id}"].items()}
        notes[learn.id] = said | ({"rates": rates} if rates else {})
    return segment | _appended(segment, more) | {"notes": notes}


def _appended(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {n: appended(before[n], x) if n in before else x for n, x in more.items()}


def batch_of(segments: Sequence[Segment]) -> int:
    return int(next(iter(segments[-1]["inputs"].values())).shape[0])
