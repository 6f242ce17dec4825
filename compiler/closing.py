"""The end of a segment: the gradients of its loss, and the writes that are due, before the next tick reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import learning
from nldsl.compiler.live import Live
from nldsl.compiler.masks import Mask, both
from nldsl.compiler.piece import Frame
from nldsl.compiler.replays import Weights, gradients
from nldsl.compiler.segments import Segment, batch_of, loss_learns
from torch import Tensor

from nldsl.graph import Memory, Objective

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner


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
            now = live.gradients(runner, list(dict.fromkeys(names)), following)
        else:
            now = gradients(runner, segments, number, group, following, parameters, last)
        found |= {f"{r.id} {n}": g for r in group for n, g in now.items()}
    piece = runner.piece(frame, {}, parameters, batch_of(segments), 1, number)
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
