"""Training steps: the learns on the step clock (rules 12 to 14)."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.reference import updates
from nldsl.compiler.reference.machine import Tick
from torch import Tensor

from nldsl.graph import Objective


def step(machine: Any, inputs: Any, state: Any) -> tuple[Tensor, Any]:
    """One step: every gradient at the values of its start, then the writes, in the order of the text."""
    learns = [o for o in machine.graph.objectives if o.every.unit == "step"]
    shown, after = torch.zeros((), dtype=machine.dtype), state
    gradients: dict[str, dict[tuple[str, str], Tensor]] = {}
    for through in dict.fromkeys(o.through for o in learns) or {0: None}:
        losses, after = machine.losses(inputs, state, truncate=through)
        known = [loss for row in losses for loss in row]
        if not known and machine.graph.loss:
            raise ValueError("no tick of this batch has a target: give at least two")
        shown = torch.stack(known).mean() if known else shown
        for record in learns:
            if record.through == through and record.kind == "loss":
                gradients[record.id] = _of_loss(machine, record, shown)
    for record in learns:
        if record.kind == "local":
            gradients[record.id], after = _of_objective(machine, record, after)
    with torch.no_grad():
        news = [_write(machine, record, gradients[record.id]) for record in learns]
        for new in news:
            for name, value in new.items():
                machine.parameters[name].copy_(value)
    machine.steps += 1
    return shown.detach(), after


def _of_loss(machine: Any, record: Objective, loss: Tensor) -> dict[tuple[str, str], Tensor]:
    assert record.optimizer is not None
    names = [(m, leaf) for m, leaf, _ in record.optimizer.bodies]
    parameters = [machine.parameters[f"{m}.{leaf}"] for m, leaf in names]
    if not loss.requires_grad:
        return {n: torch.zeros_like(p) for n, p in zip(names, parameters, strict=True)}
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {n: g if g is not None else torch.zeros_like(p) for n, g, p in zip(names, found, parameters, strict=True)}


def _of_objective(machine: Any, record: Objective, state: Any) -> tuple[dict[tuple[str, str], Tensor], Any]:
    """The mean over all ticks of the batch of a local objective's gradient, gathered while it ran."""
    sums: dict[tuple[str, str], Tensor] = {}
    ticks, after = 0, []
    for row in state:
        kept = row["frame"].get(record.id, {})
        for name, g in kept.get("sum", {}).items():
            sums[name] = sums[name] + g if name in sums else g
        ticks += kept.get("ticks", row["tick"])
        frame = {n: v for n, v in row["frame"].items() if n != record.id}
        after.append(row | {"frame": frame})
    memories = machine.graph.memories
    return {
        (m, n): (g / max(1, ticks)).detach()[slice(None) if memories[m].heads else 0] for (m, n), g in sums.items()
    }, after


def _write(machine: Any, record: Objective, gradient: dict[tuple[str, str], Tensor]) -> dict[str, Tensor]:
    """Gather a step's gradient; on the last step of the learn's window, the new values of its parameters."""
    kept = machine.optimizer_state.setdefault(record.id, {"sum": {}, "steps": 0, "rules": {}})
    kept["sum"] = {n: kept["sum"].get(n, 0) + g for n, g in gradient.items()}
    kept["steps"] += 1
    if kept["steps"] % record.every.count:
        return {}
    means = {n: g / record.every.count for n, g in kept["sum"].items()}
    kept["sum"] = {}
    assert record.optimizer is not None and record.retention is not None
    retaining = {(m, n): b for m, n, b in record.retention.bodies}
    squares = sum((g**2).sum() for g in means.values())
    norm = torch.sqrt(torch.as_tensor(squares, dtype=machine.dtype))[None]
    tick = Tick(machine, machine.graph.tick, machine.facts(machine.graph.tick), {}, {}, machine.steps)
    new: dict[str, Tensor] = {}
    for memory, leaf, body in record.optimizer.bodies:
        value = machine.parameters[f"{memory}.{leaf}"].detach().clone()  # a state may be the weight as it was
        bare = value.dim() == tick.machine.parameter_rank(memory, leaf)
        rows, g = (value[None], means[memory, leaf][None]) if bare else (value, means[memory, leaf])
        lanes = tuple(range(rows.shape[0]))
        place = updates.Place(memory, leaf, lanes, rows.shape[0])
        given = {"g": g, "w": rows, "total_norm": norm}
        u = updates.run_rule(tick, record.optimizer, body, place, given, {}, kept["rules"])
        whole = rows + u
        if (memory, leaf) in retaining:
            given |= {"u": u.expand(rows.shape), "start": rows}
            name = retaining[memory, leaf]
            whole = updates.run_rule(tick, record.retention, name, place, given, {}, kept["rules"])
        whole = whole.expand(rows.shape)
        new[f"{memory}.{leaf}"] = (whole[0] if bare else whole).clone()
    return new
