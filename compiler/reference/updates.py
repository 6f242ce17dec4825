"""Writes: optimizers turn gradients into updates, retentions make new weights (rules 7, 9 and 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler.reference.machine import Tick, Weights
from torch import Tensor

from nldsl.graph import Objective, Rule, Stream
from nldsl.parameters import rule_memory


def write(tick: Tick, record: Objective, keys: Weights, streams: Mapping[str, Any], due: set[tuple[str, int]]) -> None:
    """The heads that are due take their update: the optimizer turns the window's gradient into one, the retention makes
    new weights. A head that had no tick that counts is left alone."""
    kept = tick.frame[record.id]
    sums, counted, inner = kept["sum"], kept["counted"], dict(kept.get("rules", {}))
    assert record.optimizer is not None and record.retention is not None
    retaining = {(m, n): b for m, n, b in record.retention.bodies}
    news: dict[str, dict[str, Tensor]] = {}
    for memory, leaf, optimizer in record.optimizer.bodies:
        old = tick.frame[memory]["weights"][leaf]
        lanes = [h for h in range(old.shape[0]) if counted[memory, h] and (memory, h) in due]
        if not lanes:
            continue
        whole = len(lanes) == old.shape[0]
        on: Any = slice(None) if whole else lanes
        given = {"g": sums[memory, leaf][on], "w": old[on]}
        if _uses_norm(tick, record.optimizer):
            given["total_norm"] = torch.stack([_norm(sums, h) for h in lanes])
        if (memory, leaf) in keys:
            key = keys[memory, leaf]
            given["key"] = key[on] if key.shape[0] > 1 else key
        place = Place(memory, leaf, tuple(lanes), old.shape[0])
        update = run_rule(tick, record.optimizer, optimizer, place, given, streams, inner)
        new = old[on] + update
        if (memory, leaf) in retaining:
            given |= {"u": update.expand(len(lanes), *old.shape[1:]), "start": tick.frame[memory]["start"][leaf][on]}
            new = run_rule(tick, record.retention, retaining[memory, leaf], place, given, streams, inner)
        new = new.expand(len(lanes), *old.shape[1:])
        rows = {} if whole else dict(zip(lanes, new.unbind(0), strict=True))
        news.setdefault(memory, {})[leaf] = (
            new if whole else torch.stack([rows.get(h, row) for h, row in enumerate(old.unbind(0))])
        )
    for memory, weights in news.items():
        held = tick.frame[memory]
        tick.frame[memory] = held | {"weights": held["weights"] | weights}
    tick.frame[record.id] = kept | {"rules": inner}


def _uses_norm(tick: Tick, rule: Rule) -> bool:
    bodies = tick.machine.graph.bodies
    return any(p.id == "total_norm" for name in {b for _, _, b in rule.bodies} for p in bodies[name].inputs)


def _norm(sums: Weights, lane: int) -> Tensor:
    total = sum((g[min(lane, g.shape[0] - 1)] ** 2).sum() for g in sums.values())
    assert isinstance(total, Tensor)
    return torch.where(total > 0, torch.sqrt(torch.where(total > 0, total, torch.ones_like(total))), total)


@dataclass(frozen=True)
class Place:
    """The weight a rule serves, and which of its heads."""

    memory: str
    leaf: str
    lanes: tuple[int, ...]
    count: int


def run_rule(
    tick: Tick,
    rule: Rule,
    name: str,
    place: Place,
    given: Mapping[str, Tensor],
    streams: Mapping[str, Any],
    inner: dict[Any, Any],
) -> Tensor:
    """One update by one rule: a tick of the rule's own body on the clock of updates. What a rule keeps, it keeps for
    each head; a rule that keeps nothing does the same for all of them."""
    body = tick.machine.graph.bodies[name]
    inputs: dict[str, Tensor] = {}
    for port in body.inputs:
        source = rule.args[int(port.id[3:])] if port.id.startswith("arg") else port.stream
        value = streams[source] if source else given[port.id]
        some = source and value.shape[0] > 1 and len(place.lanes) < place.count
        inputs[port.id] = value[list(place.lanes)] if some else value
    if all(isinstance(r, Stream) and r.op != "tick" and not r.op.startswith("window_") for r in body.records):
        values = tick.inner(body, {}, inputs, 0, "", (0, 1)).run()
        return values[body.results[0]]  # type: ignore[no-any-return]
    rows = []
    for i, lane in enumerate(place.lanes):
        slot = (place.memory, place.leaf, lane, name, "u" in given)
        kept = inner.get(slot, {"tick": 0, "frame": {}})
        path = tick.path + rule_memory(place.memory, place.leaf, rule.name, "")
        head = (tick.lane[0] * place.count + lane, tick.lane[1] * place.count) if tick.path else (lane, place.count)
        own = {n: x[i : i + 1] if x.shape[0] > 1 else x for n, x in inputs.items()}
        within = tick.inner(body, dict(kept["frame"]), own, kept["tick"], path, head)
        rows.append(within.run()[body.results[0]].expand(1, *given["w"].shape[1:]))
        inner[slot] = {"tick": kept["tick"] + 1, "frame": within.frame}
    return torch.cat(rows)
