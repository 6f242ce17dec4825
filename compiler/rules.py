"""Optimizers and retentions at work: gradients into updates, updates into new weights (rule 7).

A rule's body is run for all copies of a weight at once: they are its batch. What it keeps, it keeps for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.masks import LEAD, Mask, choose
from torch import Tensor

from nldsl.graph import Body, Memory, Rule, Stream
from nldsl.parameters import rule_memory

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece


@dataclass(frozen=True)
class Place:
    """The weight that a rule serves, and the heads of its memory."""

    memory: str
    leaf: str
    heads: int

    @property
    def name(self) -> str:
        return f"{self.memory}.{self.leaf}"


def updated(
    piece: Piece,
    rules: tuple[Rule, Rule],
    place: Place,
    given: dict[str, Tensor],
    streams: Mapping[str, Tensor],
    kept: dict[str, Any],
    active: Mask,
    renewed: bool,
) -> Tensor:
    """The new weight [batch, 1, heads, *shape]. kept: what the rules keep, by weight; it is brought up to date."""
    optimizer, retention = rules
    shape = given["w"].shape
    update = run_rule(piece, optimizer, place, given, streams, kept, active, renewed)
    if not any((m, leaf) == (place.memory, place.leaf) for m, leaf, _ in retention.bodies):
        return (given["w"] + update).expand(shape)
    given = given | {"u": update.expand(shape)}
    return run_rule(piece, retention, place, given, streams, kept, active, renewed).expand(shape)


def run_rule(
    piece: Piece,
    rule: Rule,
    place: Place,
    given: Mapping[str, Tensor],
    streams: Mapping[str, Tensor],
    kept: dict[str, Any],
    active: Mask,
    renewed: bool,
) -> Tensor:
    name = next(b for m, leaf, b in rule.bodies if (m, leaf) == (place.memory, place.leaf))
    body: Body = piece.machine.bodies[name]
    inputs: dict[str, Any] = {}
    w = given["w"]
    for port in body.inputs:
        source = rule.args[int(port.id[3:])] if port.id.startswith("arg") else port.stream
        inputs[port.id] = streams[source] if source else given[port.id]
    if keeps_nothing(body):
        inner = piece.within(body, inputs)
        inner.ticks = 1
        inner.run(tuple((r, "") for r in body.records))
        return inner.values[body.results[0]].to(w.dtype)  # type: ignore[no-any-return]
    batch, heads = w.shape[0], w.shape[2]
    slot = f"{place.name} {'retention' if 'u' in given else 'optimizer'}"
    before = kept.get(slot) or {"count": torch.zeros(batch * heads, 1, 1, dtype=torch.int64, device=w.device)}
    inner = piece.within(body, {n: folded(x, batch, heads) for n, x in inputs.items()})
    inner.frame = dict(before.get("frame", {}))
    inner.batch, inner.ticks, inner.lanes = batch * heads, 1, piece.lanes * heads
    inner.number = inner.clock = before["count"]
    inner.path = piece.path + rule_memory(place.memory, place.leaf, rule.name, "")
    inner.renewed = renewed
    if active is not True and "frame" not in before:
        for record in body.records:
            if isinstance(record, Memory):
                inner.open(record)
    old = dict(inner.frame)
    inner.run(tuple((r, "") for r in body.records))
    result: Tensor = inner.values[body.results[0]].to(w.dtype)
    frame, count = inner.frame, before["count"] + 1
    if active is not True:
        on = folded(active.expand(batch, 1, heads), batch, heads)  # type: ignore[union-attr]
        frame = merged(on, frame, old)
        count = choose(on, count, before["count"])
    kept[slot] = {"count": count, "frame": frame}
    return unfolded(result, batch, heads)


def keeps_nothing(body: Body) -> bool:
    return all(isinstance(r, Stream) and r.op != "tick" and not r.op.startswith("window_") for r in body.records)


def folded(x: Tensor, batch: int, heads: int) -> Tensor:
    """[batch or 1, 1, heads or 1, …] -> [batch * heads, 1, 1, …]."""
    rest = x.shape[LEAD:]
    if x.shape[:LEAD] == (1, 1, 1):
        return x
    return x.expand(batch, 1, heads, *rest).reshape(batch * heads, 1, 1, *rest)


def unfolded(x: Tensor, batch: int, heads: int) -> Tensor:
    if x.shape[0] == 1:
        return x
    return x.reshape(batch, 1, heads, *x.shape[LEAD:])


def merged(on: Tensor, new: Any, old: Any) -> Any:
    """Nested dictionaries of tensors, copy by copy: the new where the mask holds. What was not there was zero."""
    if isinstance(new, dict):
        return {n: merged(on, v, old.get(n) if isinstance(old, dict) else None) for n, v in new.items()}
    return choose(on, new, torch.zeros_like(new) if old is None else old)


def forgotten(where: Mask, kept: dict[str, Any], memory: str, heads: int) -> dict[str, Any]:
    """What the rules keep, begun anew for these copies of a memory."""
    left = {}
    for slot, value in kept.items():
        if not slot.startswith(f"{memory}."):
            left[slot] = value
        elif isinstance(where, Tensor):
            batch = value["count"].shape[0] // max(1, heads)
            on = folded(where.expand(batch, 1, max(1, heads)), batch, max(1, heads))
            left[slot] = value | {"count": choose(on, torch.zeros_like(value["count"]), value["count"])}
    return left


def total_norm(sums: Mapping[str, Tensor]) -> Tensor:
    """The norm of all weights' gradients together, per copy; its derivative at 0 is taken as 0."""
    total: Any = sum((g**2).sum(dim=tuple(range(LEAD, g.dim()))) for g in sums.values())
    positive = total > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, total, torch.ones_like(total))), total)


def asks(machine: Any, rule: Rule, role: str) -> bool:
    """Whether a rule is over this role."""
    return any(p.id == role for name in {b for _, _, b in rule.bodies} for p in machine.bodies[name].inputs)
