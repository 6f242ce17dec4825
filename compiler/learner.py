"""What happens at a `learn`: gradients, windows, rules and writes (rules 6 to 11, 13 and 17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nldsl.compiler.machine import Frame, Tick, Weights
from nldsl.graph import Body, Memory, Objective, Rule
from nldsl.parameters import rule_memory

Captured = Mapping[str, Tensor]


def learn(tick: Tick, record: Objective) -> None:
    """One tick of one learn, at its line."""
    if record.kind == "pairs":
        _pairs(tick, record)
    elif record.kind == "loss":
        tick.notes[record.id] = _noted(tick, record)
    else:
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


# Local objectives


def _local(tick: Tick, record: Objective) -> None:
    kept = dict(tick.frame.get(record.id, {}))
    active = active_lanes(tick, record)
    captured = [{p.id: tick.values[p.stream] for p in b.inputs} for b in record.bodies]
    last = (tick.number + 1) % record.every.count == 0 or record.every.unit == "step"
    keys: Weights = {}
    if record.over or record.times > 1:
        kept["buffer"] = _buffered(tick, record, kept, captured, active)
    else:
        gradient, keys = _gradient(tick, record, [(captured, 1.0)])
        _gather(kept, weigh(gradient, [factor(tick, w) for w in record.weights], record), active)
    counted = kept.setdefault("counted", {})
    kept["counted"] = counted | {
        (m, h): counted.get((m, h), False) or on for m, lanes in active.items() for h, on in enumerate(lanes)
    }
    tick.frame[record.id] = kept
    if not last or record.every.unit == "step":
        return
    for _ in range(record.times):
        if "buffer" in kept:
            pieces = _pieces(record, kept["buffer"])
            gradient, keys = _gradient(tick, record, pieces)
            weighed = weigh(gradient, [factor(tick, w) for w in record.weights], record) if record.over else gradient
            tick.frame[record.id] = tick.frame[record.id] | {"sum": weighed}
        write(tick, record, keys, rates(tick, record))
    after = tick.frame[record.id]
    buffer = {"buffer": kept["buffer"]} if record.over else {}
    tick.frame[record.id] = {n: v for n, v in after.items() if n in ("anchor", "rules")} | buffer


def _buffered(
    tick: Tick, record: Objective, kept: Frame, captured: list[Captured], active: Mapping[str, list[bool]]
) -> tuple[Any, ...]:
    """The ticks whose objective is evaluated at the write: the last `over`, or this window's."""
    weight = factor(tick, record.over_weight)
    own = weight if record.over else torch.stack([factor(tick, w) for w in record.weights][:1]).sum(0) if record.weights else weight  # fmt: skip
    row = (captured, own, active)
    before = kept.get("buffer", ())
    return (*before, row)[-record.over :] if record.over else (*before, row)


def _pieces(record: Objective, buffer: tuple[Any, ...]) -> list[tuple[list[Captured], Any]]:
    """Each buffered tick with the factor of its objective: its own, or today's by age; 0 for heads it did not count."""
    today = buffer[-1][1]
    pieces = []
    for age, (captured, own, active) in enumerate(reversed(buffer)):
        weight = today[:, age] if record.over and today.dim() == 2 else own
        mask = torch.tensor([float(on) for on in next(iter(active.values()))], dtype=today.dtype)
        if mask.all() and len(mask) == 1:
            mask = mask[:1]
        pieces.append((captured, weight * mask))
    return pieces[::-1]


def _gradient(
    tick: Tick, record: Objective, pieces: Iterable[tuple[list[Captured], Any]]
) -> tuple[Weights, Weights]:
    """The gradient of the objectives' sum over these ticks, and the keys of the last one. Every copy of a memory (one
    per head) has its own objective, so the gradient of the sum is each copy's own."""
    variables: Weights = {}
    for m in record.memories:
        for leaf in tick.facts.memories[m].leaves:
            mode = "anchor" if record.hold else "running"
            variables[m, leaf.name] = tick.weight(m, leaf.name, mode)
    names = list(variables)

    def total(weights: tuple[Tensor, ...]) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
        given = dict(zip(names, weights, strict=True))
        value, keys = torch.zeros((), dtype=tick.machine.dtype), {}
        for captured, factors in pieces:
            for body, streams in zip(record.bodies, captured, strict=True):
                values = evaluate(tick, body, streams, given)
                value = value + (factors * values[body.results[0]]).sum()
                keys.update({(m, leaf): values[key] for m, leaf, key in body.keys})
        return value, keys

    gradients, keys = torch.func.grad(total, has_aux=True)(tuple(variables.values()))
    result = dict(zip(names, gradients, strict=True))
    if record.detached:
        result, keys = {n: g.detach() for n, g in result.items()}, {n: k.detach() for n, k in keys.items()}
    return result, keys


def evaluate(tick: Tick, body: Body, captured: Captured, given: Weights) -> dict[str, Any]:
    """An objective's body: `self` reads the variables, everything else is data."""
    inside = Objectively(tick.machine, body, tick.facts, tick.frame, captured, tick.number, tick.path, tick.lane)
    inside.given = given
    return inside.run()


class Objectively(Tick):
    """A tick of an objective's body."""

    given: Weights

    def weight(self, memory: str, leaf: str, mode: str) -> Tensor:
        return self.given[memory, leaf] if mode == "self" else super().weight(memory, leaf, mode)


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


# Writes


def write(tick: Tick, record: Objective, keys: Weights, streams: Mapping[str, Any]) -> None:
    """All memories of a learn take their update: the optimizer turns the window's gradient into one, the retention
    makes new weights. A head that had no tick that counts is left alone."""
    kept = tick.frame[record.id]
    sums, counted, inner = kept["sum"], kept["counted"], dict(kept.get("rules", {}))
    assert record.optimizer is not None and record.retention is not None
    retaining = {(m, n): b for m, n, b in record.retention.bodies}
    news: dict[str, dict[str, Tensor]] = {}
    for memory, leaf, optimizer in record.optimizer.bodies:
        holder = tick.facts.memories[memory]
        old = tick.frame[memory]["weights"][leaf]
        rows = []
        for lane in range(old.shape[0]):
            if not counted[memory, lane]:
                rows.append(old[lane])
                continue
            one = slice(lane, lane + 1)
            norm = _norm(sums, lane)
            given = {"g": sums[memory, leaf][one], "w": old[one], "total_norm": norm}
            if (memory, leaf) in keys:
                key = keys[memory, leaf]
                given["key"] = key[one] if key.shape[0] > 1 else key
            place = (lane, old.shape[0])
            update = run_rule(tick, record.optimizer, optimizer, memory, leaf, place, given, streams, inner)
            update = update.expand(1, *old.shape[1:])
            if (memory, leaf) in retaining:
                given |= {"u": update, "start": tick.start(holder, leaf)[one]}
                new = run_rule(tick, record.retention, retaining[memory, leaf], memory, leaf, place, given, streams, inner)
                rows.append(new.expand(1, *old.shape[1:])[0])
            else:
                rows.append((old[one] + update)[0])
        news.setdefault(memory, {})[leaf] = torch.stack(rows)
    for memory, weights in news.items():
        tick.frame[memory] = {"weights": tick.frame[memory]["weights"] | weights}
    tick.frame[record.id] = kept | {"rules": inner}


def _norm(sums: Weights, lane: int) -> Tensor:
    total = sum((g[min(lane, g.shape[0] - 1)] ** 2).sum() for g in sums.values())
    assert isinstance(total, Tensor)
    return torch.where(total > 0, torch.sqrt(torch.where(total > 0, total, torch.ones_like(total))), total)[None]


def run_rule(
    tick: Tick, rule: Rule, name: str, memory: str, leaf: str, lane: tuple[int, int], given: Mapping[str, Tensor],
    streams: Mapping[str, Any], inner: dict[Any, Any],
) -> Tensor:  # fmt: skip
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


# Attention


def _pairs(tick: Tick, record: Objective) -> None:
    """Attention keeps the pairs of its window (rule 17); a ragged window waits."""
    memory: Memory = tick.facts.memories[record.memories[0]]
    key, value = (tick.values[s] for s in record.pair)
    if record.detached:
        key, value = key.detach(), value.detach()
    lanes = range(max(1, memory.heads))
    active = active_lanes(tick, record)[memory.id]
    waiting = list(tick.frame.get(record.id, {}).get("waiting", tuple(() for _ in lanes)))
    for h in lanes:
        if active[h]:
            waiting[h] = (*waiting[h], (key[min(h, key.shape[0] - 1)], value[min(h, value.shape[0] - 1)]))
    if (tick.number + 1) % record.every.count == 0:
        kept = tick.frame[memory.id]["pairs"]
        joined = ((*kept[h], *waiting[h]) for h in lanes)
        tick.frame[memory.id] = {"pairs": tuple(p[-memory.window :] if memory.window else p for p in joined)}
        waiting = [() for _ in lanes]
    tick.frame[record.id] = {"waiting": tuple(waiting)}

