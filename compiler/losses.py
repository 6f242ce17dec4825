"""The loss of a tick, which may be known a tick later: what predicts the next token waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import forms
from nldsl.compiler.piece import Piece, written_out
from torch import Tensor

from nldsl.graph import LevelGraph, Stream

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner

Inputs = Mapping[str, Tensor]


class Loss:
    """A program's loss. ahead: whether a tick's is known at the next one. waited_for: the streams, and kept: those and
    the inputs, of a tick that are asked for then."""

    def __init__(self, runner: Runner, graph: LevelGraph) -> None:
        self.runner, self.graph = runner, graph
        self.ahead = graph.loss in graph.streams and graph.streams[graph.loss].lag == 1
        self.late = [s for s in graph.streams.values() if s.lag]
        asked = {a for s in self.late if s.op != "next" for a in s.args if isinstance(a, str)}
        ports = {p.id for p in graph.tick.inputs}
        self.waited_for = frozenset(asked - {s.id for s in self.late} - ports)
        self.kept = self.waited_for | (asked & ports)

    def of(self, piece: Piece, following: Inputs | None) -> Tensor:
        """The losses of a piece's ticks, [batch, ticks]. following: the inputs of the tick after, if they are asked."""
        if not self.ahead:
            return written_out(piece.values[self.graph.loss], piece.batch, piece.ticks)[:, :, 0]
        assert following is not None
        ports = {p.id: piece.values[p.id] for p in self.graph.tick.inputs}
        ahead = {n: torch.cat([x[:, 1:], following[n]], dim=1) for n, x in ports.items()}
        return self._of(dict(piece.values), ahead, piece.batch, piece.ticks)

    def known(
        self, values: Mapping[str, Tensor], inputs: Inputs, waiting: Mapping[str, Tensor] | None, batch: int, ticks: int
    ) -> tuple[Tensor, int]:
        """The losses that became known, and how many places have none yet. waiting: what the tick before kept."""
        none = torch.zeros(batch, ticks, dtype=self.runner.dtype, device=self.runner.device)
        if not self.graph.loss:
            return none, ticks
        if not self.ahead:
            return values[self.graph.loss][:, :, 0], 0
        first = 0 if waiting is not None else 1
        before = {n: values[n][:, :-1] for n in self.kept}
        if waiting is not None:
            before = {n: torch.cat([waiting[n], x], dim=1) for n, x in before.items()}
        if ticks == first:
            return none, ticks
        found = self._of(dict(before), {n: x[:, first:] for n, x in inputs.items()}, batch, ticks - first)
        return torch.cat([none[:, :first], found], dim=1) if first else found, first

    def _of(self, values: dict[str, Any], ahead: Inputs, batch: int, ticks: int) -> Tensor:
        """The losses of some ticks, from what they kept and the inputs of those after them."""
        calls = self.runner.facts(self.graph.tick).calls
        for stream in self.late:
            if self.runner.watch is not None:
                self.runner.watch(stream.id)
            values[stream.id] = ahead[str(stream.args[0])] if stream.op == "next" else _applied(stream, values, calls)
        return written_out(values[self.graph.loss], batch, ticks)[:, :, 0]


def _applied(stream: Stream, values: Mapping[str, Any], calls: Mapping[str, Any]) -> Tensor:
    args = [values[a] if isinstance(a, str) else float(a) for a in stream.args]
    return forms.apply(stream, args, calls[stream.id])
