"""What happens at a `learn`: which heads count, gradients, windows (rules 6 to 11, 13 and 17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from nldsl.compiler.reference import updates
from nldsl.compiler.reference.machine import Frame, Tick, Weights
from torch import Tensor

from nldsl.graph import Body, Memory, Objective

Captured = Mapping[str, Tensor]


def learn(tick: Tick, record: Objective) -> None:
    """One tick of one learn, at its line."""
    if record.kind == "pairs":
        _pairs(tick, record)
    elif record.kind == "loss" and record.every.unit == "token":
        tick.notes[record.id] = _noted(tick, record)
    elif record.kind == "local":
        _local(tick, record)


def active_lanes(tick: Tick, record: Objective) -> dict[str, list[bool]]:
    """For each memory, the heads for which this tick counts."""
    lanes = {m: max(1, tick.facts.memories[m].heads) for m in record.memories}
    if not record.when:
        return {m: [True] * n for m, n in lanes.items()}
    condition = tick.values[record.when].reshape(-1).tolist()
    return {m: [bool(condition[min(h, len(condition) - 1)]) for h in range(n)] for m, n in lanes.items()}


def _noted(tick: Tick, record: Objective) -> dict[str, Any]:
    """What a learn from `loss` needs of this tick when its segment closes: which heads count, factors, rates."""
    return {
        "active": active_lanes(tick, record),
        "weights": [factor(tick, w) for w in record.weights],
        "rates": rates(tick, record),
    }


def factor(tick: Tick, weight: Any) -> Tensor:
    return tick.values[weight] if isinstance(weight, str) else torch.full((1,), float(weight), dtype=tick.machine.dtype)


def rates(tick: Tick, record: Objective) -> dict[str, Any]:
    """The streams that the rules take, by name."""
    names: set[str] = set()
    for rule in (record.optimizer, record.retention):
        if rule is not None:
            names |= set(rule.args)
            names |= {p.stream for _, _, b in rule.bodies for p in tick.machine.graph.bodies[b].inputs if p.stream}
    return {n: tick.values[n] for n in names}


def forget(kept: Frame, memory: str, lanes: list[bool], number: int) -> Frame:
    """What a learn keeps, without what these heads of a memory had gathered: their windows begin at this tick."""
    on = {h for h, restarts in enumerate(lanes) if restarts}
    fresh = _emptied(kept, {(memory, h) for h in on})
    fresh["begun"] = kept.get("begun", {}) | {(memory, h): number for h in on}
    fresh["rules"] = {slot: v for slot, v in kept.get("rules", {}).items() if slot[0] != memory or slot[2] not in on}
    if "waiting" in kept:
        fresh["waiting"] = tuple(() if h in on else pairs for h, pairs in enumerate(kept["waiting"]))
    return fresh


def _emptied(kept: Frame, heads: set[tuple[str, int]]) -> Frame:
    """The open windows of these heads emptied."""
    fresh = dict(kept)
    fresh["counted"] = {place: on and place not in heads for place, on in kept.get("counted", {}).items()}
    fresh["sum"] = {
        (m, n): torch.stack([torch.zeros_like(g) if (m, h) in heads else g for h, g in enumerate(whole)])
        for (m, n), whole in kept.get("sum", {}).items()
    }
    buffer = []
    for row in kept.get("buffer", ()):
        active = {m: [on and (m, h) not in heads for h, on in enumerate(lanes)] for m, lanes in row["active"].items()}
        buffer.append(row | {"active": active})
    fresh["buffer"] = tuple(buffer)
    return fresh


# Local objectives


def _local(tick: Tick, record: Objective) -> None:
    kept = dict(tick.frame.get(record.id, {}))
    active = active_lanes(tick, record)
    row: dict[str, Any] = {
        "captured": [{p.id: tick.values[p.stream] for p in b.inputs} for b in record.bodies],
        "active": active,
        "factors": [factor(tick, w) for w in record.weights],
        "weight": factor(tick, record.over_weight),
    }
    keys: Weights = {}
    if record.over or record.times > 1:
        kept["buffer"] = (*kept.get("buffer", ()), row)[-record.over :]
    else:
        gradient, keys = _gradient(tick, record, [(row["captured"], None)])
        _gather(kept, weigh(gradient, row["factors"], record), active)
    counted = kept.get("counted", {})
    kept["counted"] = counted | {
        (m, h): counted.get((m, h), False) or on for m, lanes in active.items() for h, on in enumerate(lanes)
    }
    kept["ticks"] = kept.get("ticks", 0) + 1
    tick.frame[record.id] = kept
    begun = kept.get("begun", {})
    due = {(m, h) for m, h in kept["counted"] if (tick.number + 1 - begun.get((m, h), 0)) % record.every.count == 0}
    if not due or record.every.unit == "step":
        return
    for _ in range(record.times):
        if kept.get("buffer"):
            gradient, keys = (
                _over(tick, record, kept["buffer"]) if record.over else _again(tick, record, kept["buffer"])
            )
            tick.frame[record.id] = tick.frame[record.id] | {"sum": gradient}
        updates.write(tick, record, keys, rates(tick, record), due)
    after = _emptied(tick.frame[record.id], due)
    if record.over:
        after["buffer"] = kept["buffer"]
    else:
        after["buffer"] = tuple(r for r in after["buffer"] if any(any(lanes) for lanes in r["active"].values()))
    tick.frame[record.id] = after


Row = Mapping[str, Any]
Piece = tuple[list[Captured], list[Tensor] | None]


def _masks(record: Objective, row: Row, weight: Tensor) -> list[Tensor]:
    """A buffered tick's factor for each objective, 0 for the heads it does not count for."""
    masks = []
    for i in range(len(record.bodies)):
        lanes = row["active"][record.memories[i]]
        masks.append(weight * torch.tensor([float(on) for on in lanes], dtype=weight.dtype))
    return masks


def _over(tick: Tick, record: Objective, buffer: tuple[Row, ...]) -> tuple[Weights, Weights]:
    """`over last`: the gradient of the sum over the last ticks, each with its own weight, or with today's by age."""
    today = buffer[-1]["weight"]
    pieces: list[Piece] = []
    for i, row in enumerate(buffer):
        weight = today[:, len(buffer) - 1 - i] if today.dim() == 2 else row["weight"]
        pieces.append((row["captured"], _masks(record, row, weight)))
    gradient, keys = _gradient(tick, record, pieces)
    return weigh(gradient, buffer[-1]["factors"], record), keys


def _again(tick: Tick, record: Objective, buffer: tuple[Row, ...]) -> tuple[Weights, Weights]:
    """`times`: the window's gradient once more, at the weights as they are now."""
    total: Weights = {}
    keys: Weights = {}
    for row in buffer:
        ones = torch.ones(1, dtype=tick.machine.dtype)
        gradient, keys = _gradient(tick, record, [(row["captured"], _masks(record, row, ones))])
        for name, g in weigh(gradient, row["factors"], record).items():
            total[name] = total[name] + g if name in total else g
    return total, keys


def _gradient(tick: Tick, record: Objective, pieces: Iterable[Piece]) -> tuple[Weights, Weights]:
    """The gradient of the objectives' sum over these ticks, and the keys of the last one. Every copy of a memory (one
    per head) has its own objective, so the gradient of the sum is each copy's own."""
    variables: Weights = {}
    for m in record.memories:
        for leaf in tick.facts.memories[m].leaves:
            variables[m, leaf.name] = anchored(tick, record, m, leaf.name)
    names = list(variables)

    def total(weights: tuple[Tensor, ...]) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
        given = dict(zip(names, weights, strict=True))
        value, keys = torch.zeros((), dtype=tick.machine.dtype), {}
        for captured, factors in pieces:
            for i, (body, streams) in enumerate(zip(record.bodies, captured, strict=True)):
                values = evaluate(tick, record, body, streams, given)
                result = values[body.results[0]]
                value = value + (result if factors is None else factors[i] * result).sum()
                keys.update({(m, leaf): values[key] for m, leaf, key in body.keys})
        return value, keys

    gradients, keys = torch.func.grad(total, has_aux=True)(tuple(variables.values()))
    result = dict(zip(names, gradients, strict=True))
    if record.detached:
        result, keys = {n: g.detach() for n, g in result.items()}, {n: k.detach() for n, k in keys.items()}
    return result, keys


def anchored(tick: Tick, record: Objective, memory: str, leaf: str) -> Tensor:
    """A weight at the state where this learn takes its gradient."""
    if record.hold:
        return tick.frame[record.id]["anchor"][memory, leaf]  # type: ignore[no-any-return]
    return tick.weight(memory, leaf, "running")


def evaluate(tick: Tick, record: Objective, body: Body, captured: Captured, given: Weights) -> dict[str, Any]:
    """An objective's body: `self` reads the variables, everything else is data."""
    inside = Objectively(tick.machine, body, tick.facts, tick.frame, captured, tick.number, tick.path, tick.lane)
    inside.given, inside.record, inside.outside = given, record, tick
    return inside.run()


class Objectively(Tick):
    """A tick of an objective's body."""

    given: Weights
    record: Objective
    outside: Tick

    def weight(self, memory: str, leaf: str, mode: str) -> Tensor:
        if mode == "self":
            return self.given[memory, leaf]
        return (
            anchored(self.outside, self.record, memory, leaf)
            if mode == "anchor"
            else super().weight(memory, leaf, mode)
        )


def weigh(gradient: Weights, factors: list[Tensor], record: Objective) -> Weights:
    """`weighted`: each memory's gradient times its factor."""
    if not factors:
        return gradient
    by_memory = dict(zip(record.memories, factors, strict=True))
    return {(m, n): g * onto(by_memory[m], g) for (m, n), g in gradient.items()}


def onto(rate: Tensor, weight: Tensor) -> Tensor:
    """A rate [heads or 1, …] lined up with a weight [heads or 1, *shape]."""
    return rate.reshape(rate.shape[0], *(1,) * (weight.dim() - rate.dim()), *rate.shape[1:])


def _gather(kept: Frame, gradient: Weights, active: Mapping[str, list[bool]]) -> None:
    """Add a tick's gradient to the window's sum, for the heads that count."""
    sums = dict(kept.get("sum", {}))
    for (m, n), g in gradient.items():
        before = sums.get((m, n), torch.zeros_like(g))
        sums[m, n] = torch.stack([before[h] + g[h] if on else before[h] for h, on in enumerate(active[m])])
    kept["sum"] = sums


# Attention


def _pairs(tick: Tick, record: Objective) -> None:
    """Attention keeps the pairs of its window (rule 17); a ragged window waits."""
    memory: Memory = tick.facts.memories[record.memories[0]]
    key, value = (tick.values[s] for s in record.pair)
    if record.detached:
        key, value = key.detach(), value.detach()
    lanes = range(max(1, memory.heads))
    active = active_lanes(tick, record)[memory.id]
    state = tick.frame.get(record.id, {})
    waiting, begun = list(state.get("waiting", ((),) * len(lanes))), state.get("begun", {})
    kept = list(tick.frame[memory.id]["pairs"])
    for h in lanes:
        if active[h]:
            waiting[h] = (*waiting[h], (key[min(h, key.shape[0] - 1)], value[min(h, value.shape[0] - 1)]))
        if (tick.number + 1 - begun.get((memory.id, h), 0)) % record.every.count == 0:
            kept[h], waiting[h] = (*kept[h], *waiting[h])[-memory.window :], ()
    tick.frame[memory.id] = {"pairs": tuple(kept)}
    tick.frame[record.id] = state | {"waiting": tuple(waiting)}
