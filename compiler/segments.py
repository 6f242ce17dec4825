"""Learning from the model's own loss on a token clock (rule 12).

A segment is as long as the shortest such period. When its last target is known, its ticks are run again with a shift on
the weights of the memories that learn, the loss is differentiated at no shift, and windows that are full are written,
before the next tick reads. Until then the state keeps the opening frame and what the segment's ticks were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import learning
from nldsl.compiler.live import Live, differentiable
from nldsl.compiler.masks import LEAD, Mask, both, choose
from nldsl.compiler.nested import detached
from nldsl.compiler.piece import Frame, Piece
from torch import Tensor

from nldsl.graph import LevelGraph, Memory, Objective

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner

Segment = dict[str, Any]
Weights = dict[str, Tensor]


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


def close(
    runner: Runner,
    frame: Frame,
    segments: Sequence[Segment],
    number: int,
    following: Mapping[str, Tensor] | None,
    parameters: Mapping[str, Tensor],
    live: Live | None = None,
) -> Frame:
    """The gradients of the segment that ends before tick `number`, and the writes that are due.
    following: the inputs of that tick, if they are needed. live: the segment, where it was just read with gradients."""
    graph, frame = runner.graph, dict(frame)
    last = _last_restarts(runner, frame, segments, number)
    together: dict[Any, list[Objective]] = {}
    for record in loss_learns(graph):
        plain = not record.when and not record.weights
        together.setdefault((record.through, record.detached) if plain else record.id, []).append(record)
    found: Weights = {}
    for group in together.values():
        if live is not None:
            names = [(m, leaf.name) for r in group for m in r.memories for leaf in graph.memories[m].leaves]
            gradients = live.gradients(runner, list(dict.fromkeys(names)), following)
        else:
            gradients = _gradients(runner, segments, number, group, following, parameters, last)
        found |= {f"{r.id} {n}": g for r in group for n, g in gradients.items()}
    piece = runner.piece(frame, {}, parameters, _batch(segments), 1, number)
    for record in loss_learns(graph):
        if runner.watch is not None:
            runner.watch(record.id)
        kept = dict(piece.frame.get(record.id, {}))
        own = {n.removeprefix(f"{record.id} "): g for n, g in found.items() if n.startswith(f"{record.id} ")}
        own = {n: g for n, g in own.items() if any(n.startswith(f"{m}.") for m in record.memories)}
        sums = kept.get("sum", {})
        kept["sum"] = {n: sums[n] + g if n in sums else g for n, g in own.items()}
        notes = segments[-1]["notes"].get(record.id, {})
        counted = {m: _counted(record, m, notes, kept.get("counted", {}), last[m], number, runner) for m in last
                   if m in record.memories}  # fmt: skip
        if number % record.every.count == 0:
            piece.frame[record.id] = kept
            kept_rules = dict(kept.get("rules", {}))
            learning.apply(piece, record, kept["sum"], {}, notes.get("rates", {}), counted, kept_rules)
            kept = {n: kept[n] for n in ("anchor",) if n in kept} | ({"rules": kept_rules} if kept_rules else {})
        else:
            kept["counted"] = {m: c for m, c in counted.items() if c is not True}
            kept = {n: v for n, v in kept.items() if v}
        piece.frame[record.id] = kept
    return {n: v for n, v in piece.frame.items() if v}


def _batch(segments: Sequence[Segment]) -> int:
    return int(next(iter(segments[-1]["inputs"].values())).shape[0])


def _last_restarts(runner: Runner, frame: Frame, segments: Sequence[Segment], number: int) -> dict[str, int | Tensor]:
    """The tick at which each learning memory last restarted, or -1, within the segments that are kept."""
    length = runner.segment
    first = number - length * len(segments)
    last: dict[str, int | Tensor] = {}
    for m in {m for o in loss_learns(runner.graph) for m in o.memories}:
        memory: Memory = runner.graph.memories[m]
        if memory.reset_when:
            last[m] = frame[m]["begun"]
        elif m not in segments[0]["frame"]:
            last[m] = first
        else:
            last[m] = -1
        if memory.reset_every and not memory.reset_when:
            latest = (number - 1) // memory.reset_every * memory.reset_every
            last[m] = latest if latest >= max(first, 1) else last[m]
    return last


def _counted(
    record: Objective, memory: str, notes: Mapping[str, Any], before: Mapping[str, Mask], last: int | Tensor,
    number: int, runner: Runner,
) -> Mask:  # fmt: skip
    """Whether a tick of the open window counted, for each copy, since it last restarted."""
    if not record.when:
        return True
    active: Tensor = notes["active"][memory]
    ticks = torch.arange(number - active.shape[1], number, device=active.device).reshape(1, -1, 1)
    now = (active & (ticks >= last)).any(1, keepdim=True)
    old = both(before.get(memory, False), last < number - active.shape[1])
    return now | old if isinstance(old, Tensor) else (now if not old else torch.ones_like(now))


def _gradients(
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
            found = _replayed(runner, segments, number, record, names, factors, following, parameters, last)
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


def _replayed(
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
    batch = _batch(segments)

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
                found = runner.late(piece, following)
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
