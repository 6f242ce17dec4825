"""Writes: optimizers turn gradients into updates, retentions make new weights (rules 7, 9 and 13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from nldsl.compiler.machine import Tick, Weights
from torch import Tensor

from nldsl.graph import Objective, Rule
from nldsl.parameters import rule_memory


def write(tick: Tick, record: Objective, keys: Weights, streams: Mapping[str, Any], due: set[tuple[str, int]]) -> None:
    """The heads that are due take their update: the optimizer turns the window's gradient into one, the retention makes
    new weights. A head that had no tick that counts is left alone."""
    kept = tick.frame[record.id]
    sums, counted, inner = kept["sum"], kept["counted"], dict(kept.get("rules", {}))
    assert record.optimizer is not None and record.retention is not None
    retaining = {(m, n): b for m, n, b in record.retention.bodies}
    lanes = max(g.shape[0] for g in sums.values())
    norms = [_norm(sums, h) for h in range(lanes)] if _uses_norm(tick, record.optimizer) else []
    news: dict[str, dict[str, Tensor]] = {}
    for memory, leaf, optimizer in record.optimizer.bodies:
        old = tick.frame[memory]["weights"][leaf]
        rows = []
        for lane in range(old.shape[0]):
            if not counted[memory, lane] or (memory, lane) not in due:
                rows.append(old[lane])
                continue
            one = slice(lane, lane + 1)
            given = {"g": sums[memory, leaf][one], "w": old[one]}
            if norms:
                given["total_norm"] = norms[min(lane, len(norms) - 1)]
            if (memory, leaf) in keys:
                key = keys[memory, leaf]
                given["key"] = key[one] if key.shape[0] > 1 else key
            place = (lane, old.shape[0])
            update = run_rule(tick, record.optimizer, optimizer, memory, leaf, place, given, streams, inner)
            update = update.expand(1, *old.shape[1:])
            if (memory, leaf) in retaining:
                given |= {"u": update, "start": tick.frame[memory]["start"][leaf][one]}
                new = run_rule(
                    tick, record.retention, retaining[memory, leaf], memory, leaf, place, given, streams, inner
                )
                rows.append(new.expand(1, *old.shape[1:])[0])
            else:
                rows.append((old[one] + update)[0])
        news.setdefault(memory, {})[leaf] = torch.stack(rows)
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
    return torch.where(total > 0, torch.sqrt(torch.where(total > 0, total, torch.ones_like(total))), total)[None]


def run_rule(
    tick: Tick,
    rule: Rule,
    name: str,
    memory: str,
    leaf: str,
    lane: tuple[int, int],
    given: Mapping[str, Tensor],
    streams: Mapping[str, Any],
    inner: dict[Any, Any],
) -> Tensor:
    """One update by one rule for one head of one weight: a tick of the rule's own body on the clock of updates."""
    body = tick.machine.graph.bodies[name]
    inputs: dict[str, Tensor] = {}
    for port in body.inputs:
        source = rule.args[int(port.id[3:])] if port.id.startswith("arg") else port.stream
        value = streams[source] if source else given[port.id]
        inputs[port.id] = value[lane[0] : lane[0] + 1] if value.shape[0] > 1 and source else value
    slot = (memory, leaf, lane[0], name, "u" in given)
    kept = inner.get(slot, {"tick": 0, "frame": {}})
    path = rule_memory(memory, leaf, rule.name, "")
    outer = (tick.lane[0] * lane[1] + lane[0], tick.lane[1] * lane[1]) if tick.path else lane
    within = tick.inner(body, dict(kept["frame"]), inputs, kept["tick"], (tick.path + path), outer)
    values = within.run()
    inner[slot] = {"tick": kept["tick"] + 1, "frame": within.frame}
    return values[body.results[0]]  # type: ignore[no-any-return]
