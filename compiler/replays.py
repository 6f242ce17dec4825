"""Segments run again, with a shift on the weights of the memories that learn: a loss is differentiated at no shift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.live import differentiable
from nldsl.compiler.masks import LEAD, Mask, choose
from nldsl.compiler.nested import detached
from nldsl.compiler.piece import Frame, Piece
from nldsl.compiler.segments import Segment, batch_of, loss_learns
from torch import Tensor

from nldsl.graph import Memory, Objective

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Shift:
    """What a replay adds to the weights of the memories that learn. last: the tick of each copy's last restart."""

    deltas: Mapping[str, Mapping[str, Tensor]]
    last: Mapping[str, int | Tensor]

    def at_restart(self, piece: Piece, memory: str, leaf: str, fresh: Tensor) -> Tensor:
        if leaf not in self.deltas.get(memory, {}):
            return fresh
        return choose(self.last[memory] == piece.number, fresh + self.deltas[memory][leaf], fresh)

    def opened(self, frame: Frame, number: int, learns: Sequence[Objective]) -> Frame:
        """A segment's opening frame, shifted where a copy does not restart later on."""
        frame = dict(frame)
        for memory, deltas in self.deltas.items():
            if memory not in frame:
                continue
            where: Mask = self.last[memory] < number
            weights = {n: _moved(where, w, deltas.get(n)) for n, w in frame[memory]["weights"].items()}
            frame[memory] = frame[memory] | {"weights": weights}
            for learn in learns:
                kept = frame.get(learn.id, {})
                if memory in learn.memories and "anchor" in kept:
                    anchor = dict(kept["anchor"])
                    for leaf, delta in deltas.items():
                        anchor[f"{memory}.{leaf}"] = _moved(where, anchor[f"{memory}.{leaf}"], delta)
                    frame[learn.id] = kept | {"anchor": anchor}
        return frame


def _moved(where: Mask, weight: Tensor, delta: Tensor | None) -> Tensor:
    return weight if delta is None else choose(where, weight + delta, weight)


def gradients(
    runner: Runner,
    segments: Sequence[Segment],
    number: int,
    group: Sequence[Objective],
    following: Mapping[str, Tensor] | None,
    parameters: Mapping[str, Tensor],
    last: Mapping[str, int | Tensor],
) -> Weights:
    """The gradient of the last segment's loss with respect to the weights of these learns' memories. Where a condition
    or a factor differs from head to head, each head has a loss of its own."""
    memories = runner.graph.memories
    names = list(dict.fromkeys((m, leaf.name) for r in group for m in r.memories for leaf in memories[m].leaves))
    record = group[0]

    def of(names: list[tuple[str, str]], factors: Tensor | None) -> Weights:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not record.detached):
            found = replayed(runner, segments, number, record, names, factors, following, parameters, last)
        return {n: g.detach() for n, g in found.items()} if record.detached else found

    if not record.when and not record.weights:
        return of(names, None)
    result: Weights = {}
    notes = segments[-1]["notes"][record.id]
    for i, memory in enumerate(record.memories):
        own = [n for n in names if n[0] == memory]
        heads = max(1, memories[memory].heads)
        parts = [of(own, _factors(record, notes, i, memory, h, runner)) for h in range(heads)]
        for name in parts[0]:
            result[name] = torch.cat([part[name][:, :, h : h + 1] for h, part in enumerate(parts)], dim=2)
    return result


def _factors(record: Objective, notes: Mapping[str, Any], index: int, memory: str, head: int, runner: Runner) -> Tensor:
    """What each tick's loss counts for one head, [batch, ticks]."""
    total = torch.ones((1,) * LEAD, dtype=runner.dtype, device=runner.device)
    if record.weights:
        total = notes["weights"][f"{index}"]
        total = total[:, :, min(head, total.shape[2] - 1)][:, :, None]
    if record.when:
        mask = notes["active"][memory]
        total = torch.where(mask[:, :, min(head, mask.shape[2] - 1)][:, :, None], total, torch.zeros_like(total))
    return total[:, :, 0]


def _open(piece: Piece, names: Iterable[str]) -> None:
    """Open memories that a run has not met yet, with their shifts, so that no body needs to know of these."""
    for name in names:
        if name not in piece.frame:
            piece.open(piece.machine.graph.memories[name])
    piece.shift = None


def replayed(
    runner: Runner,
    segments: Sequence[Segment],
    number: int,
    record: Objective,
    names: list[tuple[str, str]],
    factors: Tensor | None,
    following: Mapping[str, Tensor] | None,
    parameters: Mapping[str, Tensor],
    last: Mapping[str, int | Tensor],
) -> Weights:
    """Run the last segments again with their weights shifted by a variable, and differentiate at no shift: by autograd
    where nothing learns through that, and through the bodies that reading has traced."""
    length = runner.segment
    back = -(-record.through // length) or 1
    segments = segments[-back:]
    # Not through compiled code: dynamo fails on some weights that have the batch's size.
    once = record.detached and runner.steps.compiler is None and differentiable(runner, {m for m, _ in names})
    if once:
        segments, parameters = detached(list(segments)), detached(dict(parameters))
    learned = {m for o in loss_learns(runner.graph) for m in o.memories}
    batch = batch_of(segments)

    def loss(deltas: tuple[Tensor, ...]) -> Tensor:
        moved: dict[str, dict[str, Tensor]] = {}
        for (memory, leaf), delta in zip(names, deltas, strict=True):
            moved.setdefault(memory, {})[leaf] = delta
        shift = Shift(moved, last)
        frame: Frame = {}
        total = torch.zeros((), dtype=runner.dtype, device=runner.device)
        for i, segment in enumerate(segments):
            begin = number - length * (len(segments) - i)
            opening = segment["frame"]
            frame = opening if not frame else frame | {m: opening[m] for m in learned if m in opening}
            frame = shift.opened(frame, begin, runner.graph.objectives)
            piece = runner.piece(dict(frame), dict(segment["inputs"]), parameters, batch, length, begin)
            piece.shift, piece.second_order, piece.plain = shift, not once, not once
            if once:
                _open(piece, moved)
            piece.recorded = segment.get("data", {})
            runner.advance(piece)
            frame = piece.frame
            if i + 1 == len(segments):
                found = runner.loss.of(piece, following)
                total = total + (found if factors is None else factors * found).sum()
        return total

    variables = []
    for m, leaf in names:
        memory: Memory = runner.graph.memories[m]
        shape = next(x.shape for x in memory.leaves if x.name == leaf)
        lead = (batch, 1, max(1, memory.heads))
        variables.append(torch.zeros(*lead, *map(int, shape), dtype=runner.dtype, device=runner.device))
    if once:
        with torch.enable_grad():
            total = loss(tuple(x.requires_grad_() for x in variables))
        found = torch.autograd.grad(total, variables, materialize_grads=True)
    else:
        found = torch.func.grad(loss)(tuple(variables))
    return {f"{m}.{leaf}": g for (m, leaf), g in zip(names, found, strict=True)}
